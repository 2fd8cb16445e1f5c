/** The command line, run for real: what it refuses, how, and that it never prints a secret. */
import assert from 'node:assert/strict';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CommanderError } from '@commander-js/extra-typings';
import { parseCommandLine } from '../src/cli/program.ts';
import { errorKind, errorNames, type ErrorName } from '../src/shared/errors.ts';
import { cliFolder, type CliOptions, type Document } from './support/cli.ts';
import { freePort } from './support/replica-set.ts';

function assertFailed(
  { code, document }: { readonly code: number | null; readonly document: Document },
  kind: ErrorName,
  exitCode: number,
  message: RegExp,
): void {
  assert.equal(document.error?.code, errorKind(kind).code, JSON.stringify(document));
  assert.equal(document.error.fix, errorKind(kind).fix);
  assert.match(document.error.message, message);
  assert.equal(code, exitCode);
}

const refused: readonly (readonly [words: string, kind: ErrorName, message: RegExp])[] = [
  ['', 'BadUsage', /a command is missing/],
  ['backup', 'BadUsage', /a command is missing/],
  ['bakup status', 'BadUsage', /unknown command 'bakup' \(Did you mean backup\?\)/],
  ['backup strt shop', 'BadUsage', /unknown command 'strt' \(Did you mean start\?\)/],
  ['backup start', 'BadUsage', /missing required argument 'name'/],
  ['backup start shop --wiat', 'BadUsage', /unknown option '--wiat' \(Did you mean --wait\?\)/],
  ['backup start shop more', 'BadUsage', /too many arguments/],
  ['backup start Shop', 'BadUsage', /A name has a-z, 0-9/],
  ['backup start shop --wait --timeout 5', 'BadUsage', /has no unit/],
  ['backup start shop --timeout 5s', 'BadUsage', /goes with --wait/],
  ['backup pause shop --reason', 'BadUsage', /argument missing/],
  ['backup start shop', 'UnknownDeployment', /no deployment shop/],
  ['backup start shop --config nowhere.yaml', 'ConfigMissing', /nowhere.yaml/],
  ['deployments add shop', 'BadUsage', /exactly one of --uri/],
  ['deployments add shop --uri mongodb://h --uri-env X', 'BadUsage', /exactly one of --uri/],
  ['deployments add shop --uri-env $X', 'BadUsage', /the name of a variable/],
  ['deployments add shop --uri localhost', 'BadUri', /must begin with mongodb/],
  ['deployments remove shop', 'UnknownDeployment', /no deployment shop/],
  ['restore shop --snapshot a', 'BadUsage', /--to/],
  ['restore shop --to dir:/x', 'BadUsage', /exactly one of --snapshot/],
  ['restore shop --snapshot a --latest --to dir:/x', 'BadUsage', /exactly one of --snapshot/],
  ['restore shop --snapshot a --to /x', 'BadUsage', /--to must be dir:PATH/],
  ['restore shop --at yesterday --to dir:/x', 'BadTime', /not a time/],
  ['restore shop --at 2026-01-31T12:00:00 --to dir:/x', 'BadTime', /time zone/],
  ['restore shop --snapshot a --to archive:-', 'NotBuiltYet', /archive:/],
  ['restore shop --snapshot a --to deployment:b', 'NotBuiltYet', /deployment:/],
  ['restore shop --snapshot a --to dir:/x --include a.b', 'NotBuiltYet', /--include/],
  ['restore shop --snapshot a --to dir:/x --member s', 'NotBuiltYet', /--member/],
  ['explain OplogGapp', 'BadUsage', /did you mean OplogGap\b/],
  ['explain LB2088', 'BadUsage', /did you mean LB2/],
  ['explain something-else', 'BadUsage', /`lifeboat explain` lists them/],
  ['snapshots verify a --sample 10', 'BadUsage', /such as 10%/],
  ['snapshots verify a --sample 0%', 'BadUsage', /above 0%/],
  ['schedules set shop --snapshot-every 6h', 'NotBuiltYet', /schedules set/],
  ['schedules pause shop', 'NotBuiltYet', /schedules pause/],
];

describe('wrong usage, and what is not built yet', { concurrency: 3 }, () => {
  for (const [words, kind, message] of refused) {
    test(`lifeboat ${words} is refused by its code, with exit code 2`, async () => {
      await using folder = await cliFolder();
      assertFailed(await folder.json(words.split(' ').filter(Boolean)), kind, 2, message);
    });
  }

  test('text for people goes to standard error, and standard output stays empty', async () => {
    await using folder = await cliFolder();
    const { code, stdout, stderr } = await folder.run(['bakup']);
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /^LB1001 unknown command 'bakup' \(Did you mean backup\?\)\n {2}Run the command with --help/);
  });
});

/** Help of every command, as commander builds it. */
function helpOf(words: readonly string[]): string {
  let text = '';
  const write = (more: string): void => {
    text += more;
  };
  assert.throws(
    () =>
      parseCommandLine([...words, '--help'], { version: '0', temporal: 'Talks to Temporal at example:7233.', write }),
    (error) => error instanceof CommanderError && error.code === 'commander.helpDisplayed',
  );
  return text;
}

function commandsIn(help: string): string[] {
  const [, list = ''] = /\nCommands:\n((?: .*\n)+)/.exec(help) ?? [];
  return [...list.matchAll(/^ {2}([a-z]+)/gm)].flatMap(([, name]) =>
    name === undefined || name === 'help' ? [] : [name],
  );
}

test('every command has a help with an example, the global flags, and what it has to do with Temporal', () => {
  const seen: string[] = [];
  const visit = (words: readonly string[]): void => {
    const help = helpOf(words);
    assert.match(help, /\nExample:\n {2}\$ lifeboat [a-z]/, words.join(' '));
    assert.match(help, /Temporal/, words.join(' '));
    assert.match(help, /--json/, words.join(' '));
    const commands = commandsIn(help);
    if (commands.length === 0) seen.push(words.join(' '));
    for (const command of commands) visit([...words, command]);
  };
  visit([]);
  assert.deepEqual(
    seen.sort(),
    [
      ...['up', 'down', 'worker', 'doctor', 'explain', 'groom', 'restore', 'purge'],
      ...['add', 'list', 'remove'].map((name) => `deployments ${name}`),
      ...['start', 'pause', 'resume', 'resync', 'stop', 'status'].map((name) => `backup ${name}`),
      ...['create', 'list', 'show', 'hold', 'release', 'delete', 'verify'].map((name) => `snapshots ${name}`),
      ...['show', 'apply'].map((name) => `retention ${name}`),
      ...['list', 'show', 'cancel'].map((name) => `restores ${name}`),
      ...['list', 'show'].map((name) => `validations ${name}`),
      ...['list', 'retire'].map((name) => `daemons ${name}`),
      ...['list', 'set', 'pause', 'resume'].map((name) => `schedules ${name}`),
    ].sort(),
  );
});

test('help and version are one document with --json, and say which Temporal is meant', async () => {
  await using folder = await cliFolder();
  const env = { TEMPORAL_ADDRESS: 'temporal.example:7233', TEMPORAL_NAMESPACE: 'backups' };
  const { code, document } = await folder.json(['backup', 'start', '--help'], { env });
  assert.equal(code, 0);
  assert.match(
    String(document['help']),
    /Talks to Temporal at temporal.example:7233, namespace backups \(by TEMPORAL_ADDRESS\)/,
  );
  const version = await folder.json(['--version']);
  assert.equal(version.code, 0);
  assert.match(String(version.document['version']), /^\d+\.\d+\.\d+$/);
});

test('an error is explained by its code or its name, and without either all of them are listed', async () => {
  await using folder = await cliFolder();
  const byCode = await folder.json(['explain', 'lb2008']);
  const { code, owner, retryable, fix } = errorKind('OplogGap');
  assert.equal(byCode.code, 0);
  const { explanation, ...kind } = byCode.document;
  assert.deepEqual(kind, { name: 'OplogGap', code, owner, retryable, fix });
  assert.match(String(explanation), /ring/);
  assert.deepEqual(await folder.json(['explain', 'oplogGap']), byCode);
  const all = (await folder.json(['explain'])).document['errors'] as { name: string }[];
  assert.deepEqual(all.map(({ name }) => name).toSorted(), errorNames().toSorted());
  const { stdout } = await folder.run(['explain', 'LB4003']);
  assert.match(stdout, /nobody: it passes by itself/);
});

test('deployments are added, listed and removed, and comments stay', async () => {
  await using folder = await cliFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  await writeFile(file, '# ours\ndeployments:\n  # the first\n  a: { uri: "${A}" }\n');
  const env = { B_URI: 'mongodb://b1,b2/?replicaSet=b' };
  assert.deepEqual(await folder.json(['deployments', 'add', 'b', '--uri-env', 'B_URI'], { env }), {
    code: 0,
    document: { name: 'b', kind: 'unknown', uri: '${B_URI}', file },
  });
  await folder.json(['deployments', 'add', 'c', '--uri-file', 'secrets/c']);
  await folder.json(['deployments', 'add', 'd', '--uri-command', '--', 'vault', 'kv', 'get', '-field=uri', 'hunter2']);
  const { document } = await folder.json(['deployments', 'list']);
  assert.deepEqual(document['deployments'], [
    { name: 'a', kind: 'unknown', uri: '${A}' },
    { name: 'b', kind: 'unknown', uri: '${B_URI}' },
    { name: 'c', kind: 'unknown', uri: `(in the file ${join(folder.path, 'secrets', 'c')})` },
    { name: 'd', kind: 'unknown', uri: '(printed by vault)' },
  ]);
  assertFailed(await folder.json(['deployments', 'add', 'b', '--uri-env', 'X']), 'DeploymentExists', 1, /already has/);
  for (const words of [['--uri-command'], ['vault'], ['--uri-env', 'X', '--uri-command', '--', 'vault']]) {
    assertFailed(await folder.json(['deployments', 'add', 'e', ...words]), 'BadUsage', 2, /uri-command/);
  }
  assert.equal((await folder.json(['deployments', 'remove', 'b'])).code, 0);
  assert.equal((await folder.json(['deployments', 'remove', 'd'])).code, 0);
  assert.match(
    await readFile(file, 'utf8'),
    /^# ours\ndeployments:\n {2}# the first\n {2}a: .*\n {2}c:\n {4}uriFile: .*\n$/,
  );
});

test('no command prints a password, whatever it is given', async () => {
  await using folder = await cliFolder();
  const password = 'hunter2';
  const port = await freePort();
  const uri = `mongodb://bob:${password}@127.0.0.1:${port}/?replicaSet=a`;
  const env = { STORE: uri, LIFEBOAT_DEBUG: '1', TEMPORAL_ADDRESS: `127.0.0.1:${port}` };
  const calls: readonly (readonly string[])[] = [
    ['deployments', 'add', 'lit', '--uri', uri],
    ['deployments', 'add', 'bad', '--uri', `mongodb://bob:${password}/x@h`],
    ['deployments', 'add', 'env', '--uri-env', 'STORE'],
    ['deployments', 'add', 'env2', '--uri-env', uri],
    ['deployments', 'add', 'lit', '--uri', uri],
    ['deployments', 'add', 'pos', uri],
    ['deployments', 'add', `--uri${uri}`],
    [uri],
    ['deployments', 'list'],
    ['backup', 'status', 'lit'],
    ['snapshots', 'list'],
  ];
  await folder.run(['deployments', 'add', 'first', '--uri', uri]);
  await writeFile(
    join(folder.path, 'store.yaml'),
    'blockstore: { uri: "${STORE}" }\ndeployments: { lit: { uri: "${STORE}" } }\n',
  );
  const runs = await Promise.all([
    ...calls.map((words) => folder.run(words, { env })),
    ...[
      ['--json', 'backup', 'status'],
      ['deployments', 'list'],
    ].map((words) => folder.run(['--config', 'store.yaml', ...words], { env })),
  ]);
  for (const { stdout, stderr } of runs) assert.doesNotMatch(stdout + stderr, new RegExp(password));
  assert.match(await readFile(join(folder.path, 'lifeboat.yaml'), 'utf8'), /hunter2/, 'the literal one is in the file');
});

describe('servers that do not answer', { concurrency: true }, () => {
  const withinTenSeconds = async (words: readonly string[], config: string, options: CliOptions): Promise<string> => {
    await using folder = await cliFolder();
    await writeFile(join(folder.path, 'lifeboat.yaml'), config);
    // What a busy machine takes for a command that asks nobody.
    const { tookMs: machineMs } = await folder.run(['--version']);
    const { code, stdout, stderr, tookMs } = await folder.run(words, options);
    assert.deepEqual([code, stdout], [1, ''], stderr);
    assert.ok(tookMs < 10_000 + 10 * machineMs, `${tookMs} ms, where --version takes ${machineMs} ms`);
    assert.doesNotMatch(stderr, /\n\s+at /, 'a stack');
    return stderr;
  };

  test('an absent Temporal is told with its address within ten seconds', async () => {
    const address = `127.0.0.1:${await freePort()}`;
    const options = { env: { TEMPORAL_ADDRESS: address } };
    const stderr = await withinTenSeconds(['backup', 'start', 'a'], 'deployments: { a: { uri: "${A}" } }', options);
    assert.match(stderr, new RegExp(`^LB7001 Temporal at ${address} \\(by TEMPORAL_ADDRESS\\) does not answer`));
  });

  test('an absent blockstore is told with its hosts within ten seconds', async () => {
    const host = `127.0.0.1:${await freePort()}`;
    const config = `blockstore: { uri: "mongodb://bob:hunter2@${host}/?replicaSet=b" }`;
    const stderr = await withinTenSeconds(['backup', 'status'], config, {});
    assert.match(stderr, new RegExp(`^LB3001 the blockstore does not answer \\(mongodb://${host}\\)`));
  });

  test('a home that was named and runs nothing is said to run nothing; another Temporal is not talked to', async () => {
    const options = { env: { TEMPORAL_ADDRESS: '127.0.0.1:1' } };
    const config = 'deployments: { a: { uri: "${A}" } }';
    const stderr = await withinTenSeconds(['--home', 'h', 'backup', 'start', 'a'], config, options);
    assert.match(stderr, /^LB7001 no `lifeboat up` runs in .*\/h\n/);
  });

  test('without a blockstore anywhere the status says so at once', async () => {
    const stderr = await withinTenSeconds(['backup', 'status'], '', {});
    assert.match(stderr, /^LB3011 .*lifeboat.yaml names no blockstore, and no `lifeboat up` runs in /);
  });

  test('a variable that the configuration needs and is not set is wrong configuration', async () => {
    await using folder = await cliFolder();
    await writeFile(join(folder.path, 'lifeboat.yaml'), 'blockstore: { uri: "${STORE}" }');
    assertFailed(await folder.json(['backup', 'status']), 'SecretMissing', 2, /STORE/);
  });

  test('a deployment is not removed while nobody can tell whether its backup runs', async () => {
    await using folder = await cliFolder();
    await writeFile(join(folder.path, 'lifeboat.yaml'), 'deployments: { a: { uri: "${A}" } }');
    const env = { TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}` };
    assertFailed(await folder.json(['deployments', 'remove', 'a'], { env }), 'TemporalUnavailable', 1, /cannot tell/);
    await access(join(folder.path, 'lifeboat.yaml'));
    assert.match(await readFile(join(folder.path, 'lifeboat.yaml'), 'utf8'), /a:/);
  });
});

test('a configuration with mistakes is refused with the line, before anything is asked of anybody', async () => {
  await using folder = await cliFolder();
  await writeFile(join(folder.path, 'lifeboat.yaml'), 'deployments:\n  a: { url: mongodb://h }\n');
  for (const words of [
    ['deployments', 'list'],
    ['backup', 'status'],
    ['backup', 'start', 'a'],
    ['snapshots', 'list'],
  ]) {
    assertFailed(
      await folder.json(words),
      'ConfigInvalid',
      2,
      /lifeboat.yaml:2:8: deployments.a.url is no known key; did you mean "uri"/,
    );
  }
});
