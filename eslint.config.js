/**
 * The rules that CI holds the code to. Beside the strict, type-checked ones of typescript-eslint: imports point one way
 * (docs/architecture.md), workflows stay deterministic, and promises are never left alone.
 */
import importX, { createNodeResolver } from 'eslint-plugin-import-x';
import { builtinModules } from 'node:module';
import tseslint from 'typescript-eslint';

/** Each layer with the layers above it, which it must not import. */
const layers = [
  ['shared', 'host', 'bson', 'mongo', 'mongod', 'stores'],
  ['source', 'syncstore', 'oplogstore', 'head', 'validation', 'blockstore', 'restore'],
  ['steps', 'status', 'preflight'],
  ['activities', 'metrics'],
];
const edges = [
  'workflows',
  'cli',
  'demo',
  'worker.ts',
  'worker-logger.ts',
  'worker-metrics.ts',
  'worker-presence.ts',
  'worker-temporal.ts',
];

/** What a mongod is found by belongs to the embedded servers and is used below them. */
const BINARIES = './binaries.ts';

/** Layers may use those before them, and their own. */
function oneWay() {
  return layers.flatMap((folders, level) => {
    const above = layers.slice(level + 1).flat();
    return folders.map((folder) => ({
      target: `./src/${folder}`,
      from: [...above, ...edges].map((name) => `./src/${name}`),
      message: 'Imports point one way: workflows, activities, steps, the parts of the data path, stores, shared.',
    }));
  });
}

const zones = [
  ...oneWay(),
  ...['host', 'bson', 'mongo', 'mongod', 'stores', 'source', 'syncstore', 'oplogstore', 'head', 'blockstore'].map(
    (folder) => ({ target: `./src/${folder}`, from: './src/embedded', except: [BINARIES] }),
  ),
  ...['host', 'bson', 'mongo', 'mongod', 'embedded', 'stores', 'source', 'steps', 'activities', 'config', 'proof'].map(
    (folder) => ({ target: './src/shared', from: `./src/${folder}`, message: 'src/shared is below everything.' }),
  ),
  { target: ['./src/host', './src/bson'], from: ['./src/stores', './src/mongod', './src/mongo'] },
  { target: './src/embedded', from: ['./src/cli', './src/config', './src/activities', './src/steps'] },
  { target: './src/config', from: ['./src/cli', './src/activities', './src/steps'] },
  {
    target: './src/proof',
    from: ['./src/source', './src/syncstore', './src/oplogstore', './src/head', './src/validation', './src/steps'],
    message: 'The proof shares no code with the copier.',
  },
  {
    target: './src/validation',
    from: './src/proof',
    message: 'The validation and the proof are two witnesses: neither knows what the other saw.',
  },
];

const ACTIVITIES_TYPES = { group: ['**/activities/**'], allowTypeImports: true };

/** Time, chance and the environment are no longer the same when a workflow is replayed, or are not there at all. */
const notInWorkflows = {
  'no-restricted-imports': 'off',
  '@typescript-eslint/no-restricted-imports': [
    'error',
    {
      paths: builtinModules.map((name) => ({ name, message: 'Workflows run in a sandbox without Node.' })),
      patterns: [
        { group: ['node:*'], message: 'Workflows run in a sandbox without Node.' },
        {
          regex: '^@temporalio/(?!workflow$|common$)',
          message: 'Workflows use @temporalio/workflow and @temporalio/common only.',
        },
        { regex: '^(?![.@])(?!node:)', message: 'Workflows use no other package.' },
        { regex: '^@(?!temporalio/)', message: 'Workflows use no other package.' },
        { regex: '^\\.\\./(?!shared/|activities/)', message: 'Workflows import src/shared and types of activities.' },
        { ...ACTIVITIES_TYPES, message: 'Only types of activities: their code cannot run in a workflow.' },
      ],
    },
  ],
  'no-restricted-globals': [
    'error',
    ...['process', 'Buffer', 'fetch', 'setInterval', 'setImmediate', 'performance', 'WeakRef', 'FinalizationRegistry'],
    { name: 'setTimeout', message: 'Use sleep or condition of @temporalio/workflow, with a summary.' },
  ],
};

const NO_ENUM = { selector: 'TSEnumDeclaration', message: 'Use a union of literals, or a const object.' };

const NO_IO = ['node:*', 'mongodb', '@temporalio/*', 'pino'];

export default tseslint.config(
  { ignores: ['dist', 'dist.next', '.cache', '.lifeboat', 'node_modules', 'coverage'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'import-x': importX },
    settings: {
      'import-x/resolver-next': [createNodeResolver({ extensions: ['.ts', '.js', '.mjs', '.json'] })],
      'import-x/extensions': ['.ts'],
      'import-x/external-module-folders': ['node_modules'],
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      // A field is taken out of an object by naming it beside the rest.
      '@typescript-eslint/no-unused-vars': ['error', { ignoreRestSiblings: true }],
      // The runner settles the promise of a test.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'suite', 'describe', 'it'] },
          ],
        },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // Infinite loops with a way out in their middle are how waiting is written here.
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidOperator: true },
      ],
      // `void` also says to a reader that a value is not wanted.
      '@typescript-eslint/no-meaningless-void-operator': 'off',
      'no-restricted-syntax': ['error', NO_ENUM],
      'no-console': 'error',
      eqeqeq: ['error', 'always'],
      'import-x/no-default-export': 'error',
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      'import-x/no-restricted-paths': ['error', { zones }],
      'import-x/no-duplicates': ['error', { 'prefer-inline': true }],
    },
  },
  { files: ['src/workflows/**/*.ts'], rules: notInWorkflows },
  {
    files: ['src/shared/**/*.ts', 'src/bson/**/*.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': ['error', { patterns: [{ group: NO_IO, message: 'No I/O here.' }] }],
    },
  },
  {
    files: [
      ...layers
        .flat()
        .filter((name) => name !== 'activities')
        .map((name) => `src/${name}/**/*.ts`),
    ],
    ignores: ['src/shared/**', 'src/bson/**'],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        { patterns: [{ group: ['@temporalio/*'], message: 'Nothing below the activities knows Temporal.' }] },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/explicit-module-boundary-types': 'off',
      // What `before` sets up may be missing in `after`, when it failed.
      '@typescript-eslint/no-unnecessary-condition': 'off',
      // What a server answers a command is looked at as it is.
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-deprecated': 'off',
      // A test that throws on what another process or a worker thread sent passes it on as it came.
      '@typescript-eslint/only-throw-error': 'off',
    },
  },
  { files: ['src/cli/**/*.ts', 'src/demo/**/*.ts'], rules: { 'no-console': 'off' } },
);
