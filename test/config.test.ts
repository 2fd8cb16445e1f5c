/** Reading lifeboat.yaml: what it means, and what it is refused for, to the line. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig, parseConfig, watchableConfig } from '../src/config/load.ts';
import type { Config } from '../src/config/schema.ts';
import { SecretCommands } from '../src/config/secret-command.ts';
import { steadily } from '../src/config/steady.ts';
import { configuredStores, deploymentUri, hostsOf, redactUri } from '../src/config/uris.ts';
import { parseDuration, parseSize } from '../src/config/units.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../src/shared/errors.ts';
import { testFolder } from './support/folders.ts';

const FILE = '/etc/lifeboat/lifeboat.yaml';

function refusalOf(source: string): LifeboatError {
  try {
    parseConfig(FILE, source);
  } catch (error) {
    if (isLifeboatError(error)) return error;
    throw error;
  }
  return assert.fail(`accepted: ${source}`);
}

async function rejectsKind(kind: ErrorName, run: () => Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(run, (error) => {
    assert.ok(isLifeboatError(error, kind), String(error));
    assert.match(error.message, message);
    return true;
  });
}

test('a file that says nothing means the defaults', () => {
  for (const source of ['', '# nothing yet\n', '{}', 'deployments:\n  # shop: ...\nlimits:\ndaemon:\n']) {
    assert.deepEqual(parseConfig(FILE, source), {
      file: FILE,
      daemon: {
        id: null,
        dataDir: null,
        headCacheBytes: 2 ** 30,
        mongod: new Map(),
        metricsListen: null,
        takeoverAfterMs: 1_800_000,
      },
      blockstore: null,
      syncStore: null,
      oplogStore: null,
      limits: {
        slicesInFlight: 4,
        sourceReadBytesPerSecond: null,
        verifyReadBytesPerSecond: 52_428_800,
        verifyForMs: 60_000,
      },
      deployments: new Map(),
    });
  }
});

test('every key that is built is read, in bytes and milliseconds, paths beside the file', () => {
  const config = parseConfig(
    FILE,
    `
daemon:
  { id: host-1, dataDir: data, headCache: 512MiB, mongod: { 6.0: /usr/bin/mongod, "7.0": bin/mongod }, metrics: { listen: "127.0.0.1:9464" }, takeoverAfter: never }
blockstore: { uri: "\${STORE}" }
syncStore: { uriFile: sync-uri }
limits: { slicesInFlight: 2, sourceReadMiBps: 1.5, verifyReadMiBps: 0.5, verifyFor: 30s }
deployments:
  shop:
    uri: mongodb://db1,db2/?replicaSet=shop
    readFrom: secondary
    minOplogWindow: 90m
    allowUnverifiedVersion: true
    verifyWithin: 4
    exclude: ["logs.*", "shop.tmp_*", "logs.*"]
    pointInTime: { window: 90m }
    snapshots: { keep: { latest: 8, daily: 7, yearly: 0 } }
  shop-2: { uri: "\${B}", pointInTime: { window: 0 } }
`,
  );
  assert.deepEqual(config.daemon, {
    id: 'host-1',
    dataDir: '/etc/lifeboat/data',
    headCacheBytes: 2 ** 29,
    mongod: new Map([
      ['6.0', '/usr/bin/mongod'],
      ['7.0', '/etc/lifeboat/bin/mongod'],
    ]),
    takeoverAfterMs: Infinity,
    metricsListen: '127.0.0.1:9464',
  });
  assert.deepEqual(config.blockstore, { uri: '${STORE}' });
  assert.deepEqual(config.syncStore, { uriFile: '/etc/lifeboat/sync-uri' });
  assert.equal(config.oplogStore, null);
  assert.deepEqual(config.limits, {
    slicesInFlight: 2,
    sourceReadBytesPerSecond: 1_572_864,
    verifyReadBytesPerSecond: 524_288,
    verifyForMs: 30_000,
  });
  assert.deepEqual(
    config.deployments,
    new Map([
      [
        'shop',
        {
          source: { uri: 'mongodb://db1,db2/?replicaSet=shop' },
          readFrom: 'secondary',
          pointInTimeWindowMs: 5_400_000,
          keep: { latest: 8, daily: 7, yearly: 0 },
          minOplogWindowMs: 5_400_000,
          allowUnverifiedVersion: true,
          verifyWithin: 4,
          exclude: ['logs.*', 'shop.tmp_*'],
        },
      ],
      [
        'shop-2',
        {
          source: { uri: '${B}' },
          readFrom: 'secondaryPreferred',
          pointInTimeWindowMs: 0,
          keep: null,
          minOplogWindowMs: 10_800_000,
          allowUnverifiedVersion: false,
          verifyWithin: 28,
          exclude: [],
        },
      ],
    ]),
  );
});

/** Where the mistake is, and what is said of it. */
const mistakes: readonly (readonly [what: string, source: string, at: `${number}:${number}`, text: RegExp])[] = [
  [
    'a misspelt section',
    'limits: {}\ndeploymets: {}\n',
    '2:1',
    /deploymets is no known key; did you mean "deployments"\?/,
  ],
  [
    'a misspelt key',
    'deployments:\n  shop:\n    uri: mongodb://a\n    readForm: primary\n',
    '4:5',
    /did you mean "readFrom"/,
  ],
  [
    'a key like no other',
    'daemon:\n  xyzzy: 1\n',
    '2:3',
    /xyzzy is no known key; there are id, dataDir, headCache, mongod, takeoverAfter, metrics/,
  ],
  ['a unit that is not there', 'daemon: { headCache: 1 }', '1:22', /has no unit: write a size/],
  ['a unit in the wrong case', 'daemon: { headCache: 1gib }', '1:22', /unknown unit "gib": write 1GiB/],
  [
    'a unit of another kind',
    'deployments: { a: { uri: mongodb://h, pointInTime: { window: 1GiB } } }',
    '1:62',
    /one of ms, s, m, h, d, w/,
  ],
  ['metrics without a host', 'daemon: { metrics: { listen: 9464 } }', '1:30', /must be host:port/],
  ['metrics at no port', 'daemon: { metrics: { listen: "localhost:70000" } }', '1:30', /must be host:port/],
  ['a size below the least', 'daemon:\n  headCache: 1MiB\n', '2:14', /at least 256MiB/],
  ['a takeover before a daemon can be missed', 'daemon: { takeoverAfter: 5s }', '1:26', /at least 30s/],
  ['a text for a number', 'limits:\n  slicesInFlight: many\n', '2:19', /a whole number from 1 to 64/],
  ['a broken number', 'limits: { slicesInFlight: 1.5 }', '1:27', /a whole number from 1 to 64/],
  ['a number out of range', 'limits: { slicesInFlight: 0 }', '1:27', /a whole number from 1 to 64/],
  ['a comparison that takes longer than a source remembers', 'limits: { verifyFor: 5m }', '1:22', /at most 100s/],
  [
    'a rate with a unit',
    'limits: { sourceReadMiBps: 20MiB }',
    '1:28',
    /MiB a second from 0.1 to 100000, without a unit/,
  ],
  ['a rate of nothing', 'limits: { sourceReadMiBps: 0 }', '1:28', /from 0.1 to 100000/],
  [
    'what is left out without a collection',
    'deployments: { a: { uri: mongodb://h, exclude: [logs] } }',
    '1:49',
    /must be DATABASE\.COLLECTION/,
  ],
  [
    'users that are left out',
    'deployments: { a: { uri: mongodb://h, exclude: ["admin.*"] } }',
    '1:49',
    /admin, config and local belong to every backup/,
  ],
  [
    'the collection behind a time-series one',
    'deployments: { a: { uri: mongodb://h, exclude: ["a.system.buckets.b"] } }',
    '1:49',
    /without system\.buckets/,
  ],
  [
    'a text for a list',
    'deployments: { a: { uri: mongodb://h, exclude: "logs.*" } }',
    '1:48',
    /must be DATABASE\.COLLECTION/,
  ],
  ['a list for a map', 'daemon:\n  - id: a\n', '1:1', /daemon must be a map of id, dataDir/],
  ['a list for the file', '- shop\n', '1:1', /must be a map of daemon, blockstore/],
  ['a text for the file', 'shop\n', '1:1', /must be a map of daemon, blockstore/],
  ['an empty blockstore', 'blockstore:\n', '1:1', /blockstore must be a map of uri, uriFile/],
  [
    'a deployment without a source',
    'deployments:\n  shop: {}\n',
    '2:3',
    /shop needs a uri, a uriFile that holds it, or a uriCommand/,
  ],
  [
    'tiers that keep nothing',
    'deployments:\n  a:\n    uri: mongodb://h\n    snapshots: { keep: { latest: 0 } }\n',
    '4:18',
    /must keep something/,
  ],
  [
    'a tier that is no number',
    'deployments:\n  a:\n    uri: mongodb://h\n    snapshots: { keep: { daily: 7d } }\n',
    '4:33',
    /must be a whole number from 0 to 10000/,
  ],
  ['a deployment that is empty', 'deployments:\n  shop:\n', '2:3', /deployments.shop must be a map of uri/],
  ['two sources', 'deployments:\n  shop: { uri: mongodb://a, uriFile: /f }\n', '2:38', /keep one of them/],
  [
    'a command beside a file',
    'blockstore: { uriFile: /f, uriCommand: [p] }\n',
    '1:28',
    /a uriFile and a uriCommand: keep one/,
  ],
  [
    'a command in one text',
    'blockstore: { uriCommand: vault read }\n',
    '1:27',
    /a list of a program and its arguments/,
  ],
  ['a command without a program', 'blockstore: { uriCommand: [] }\n', '1:15', /a list of a program and its arguments/],
  ['a variable in a command', 'blockstore: { uriCommand: [p, "${A}"] }\n', '1:31', /variables stand only in a uri/],
  ['no connection string', 'blockstore: { uri: localhost }', '1:20', /must begin with mongodb:\/\//],
  [
    'a read preference in the wrong case',
    'deployments: { a: { uri: mongodb://h, readFrom: Primary } }',
    '1:49',
    /one of primary, primaryPreferred/,
  ],
  [
    'a window without a unit',
    'deployments: { a: { uri: mongodb://h, minOplogWindow: 3 } }',
    '1:55',
    /has no unit: write a duration/,
  ],
  [
    'a permission that is neither yes nor no',
    'deployments: { a: { uri: mongodb://h, allowUnverifiedVersion: 7.0 } }',
    '1:63',
    /must be true or false/,
  ],
  ['a name in capitals', 'deployments:\n  Shop: { uri: mongodb://h }\n', '2:3', /must be a name of a-z, 0-9/],
  ['a version that is none', 'daemon: { mongod: { six: /m } }', '1:21', /major version in quotes/],
  ['a daemon id with a blank', 'daemon: { id: my host }', '1:15', /letters, digits/],
  ['a variable in a path', 'daemon:\n  dataDir: "${HOME}/x"\n', '2:12', /variables stand only in a uri/],
  ['a key given twice', 'limits: {}\ndaemon: {}\nlimits: {}\n', '3:1', /a second time/],
  ['a tab', 'daemon:\n\tid: a\n', '2:1', /indent with spaces/],
  ['a second document', 'limits: {}\n---\nlimits: {}\n', '2:1', /a second YAML document/],
  ['an unclosed bracket', 'daemon: { id: a\n', '2:1', /a bracket before it is not closed/],
  ['a line without a key', 'daemon:\n  id: a\nshop\n', '3:1', /a comma or colon, is missing/],
];

for (const [what, source, at, text] of mistakes) {
  test(`${what} is refused where it stands`, () => {
    const error = refusalOf(source);
    assert.equal(error.kind, 'ConfigInvalid', error.message);
    const [line = ''] = error.message.split('\n');
    assert.ok(line.startsWith(`${FILE}:${at}: `), line);
    assert.match(line, text);
  });
}

const unbuilt: readonly (readonly [key: string, source: string, at: `${number}:${number}`])[] = [
  ['groom', 'limits: {}\ngroom: { whenLivingBelow: 0.9 }\n', '2:1'],
  ['deployments.a.snapshots.every', 'deployments:\n  a:\n    uri: mongodb://h\n    snapshots: { every: 6h }\n', '4:18'],
  ['deployments.a.members', 'deployments:\n  a: { uri: mongodb://h, members: { s1: {} } }\n', '2:26'],
];

for (const [key, source, at] of unbuilt) {
  test(`${key} is refused as not built yet`, () => {
    const error = refusalOf(source);
    assert.equal(error.kind, 'NotBuiltYet', error.message);
    assert.equal(error.message, `${FILE}:${at}: ${key} is not built yet`);
  });
}

test('all mistakes of a file are told at once, in its order', () => {
  const error = refusalOf('limits: { slicesInFlight: x }\ndaemon: { headCache: 5 }\ngroom: {}\n');
  assert.equal(error.kind, 'ConfigInvalid');
  assert.deepEqual(
    error.message.split('\n').map((line) => line.slice(FILE.length + 1).split(':')[0]),
    ['1', '2', '3'],
  );
});

test('no refusal quotes a connection string', () => {
  const secret = 'mongodb://bob:hunter2@h';
  for (const source of [
    `blockstore: { uri: ${secret}`,
    `blockstore:\n  uri: "${secret}" "x"\n`,
    `blockstore:\n  - ${secret}\n`,
    `deployments:\n  a: { uri: "x${secret}" }\n`,
    `deployments:\n  a: { uri: "${secret}", readFrom: "${secret}", uriFile: "${secret}" }\n`,
    `blockstore:\n\turi: ${secret}\n`,
    `blockstore: *${secret}\n`,
  ]) {
    assert.doesNotMatch(refusalOf(source).message, /hunter2/);
  }
});

test('quantities are read with their units, and nothing else is', () => {
  assert.deepEqual(parseDuration('1.5h'), { value: 5_400_000 });
  assert.deepEqual(parseDuration('0'), { value: 0 });
  assert.deepEqual(parseDuration('250ms'), { value: 250 });
  assert.deepEqual(parseSize('2 GiB'), { value: 2 ** 31 });
  assert.deepEqual(parseSize('1GB'), { value: 1e9 });
  for (const text of ['-1h', '1h30m', 'h', '', '1e3s', '1 toString', '99999999999TiB']) {
    assert.ok('wrong' in parseDuration(text) && 'wrong' in parseSize(text), text);
  }
});

test('a variable is filled in where the uri is used, and one that is missing is named', async () => {
  const config = parseConfig(FILE, 'deployments: { a: { uri: "mongodb://u:${PASS}@h/?replicaSet=${SET}" } }');
  assert.equal(await deploymentUri(config, 'a', { PASS: 'p', SET: 'rs' }), 'mongodb://u:p@h/?replicaSet=rs');
  await rejectsKind(
    'SecretMissing',
    () => deploymentUri(config, 'a', { PASS: 'hunter2', SET: '' }),
    /^the environment variable SET, which deployment a needs/,
  );
  await rejectsKind('UnknownDeployment', () => deploymentUri(config, 'b', {}), /no deployment b/);
});

test('a value that is no connection string is refused without being quoted', async () => {
  const config = parseConfig(FILE, 'blockstore: { uri: "${S}" }\ndeployments: { a: { uri: "${A}" } }');
  await rejectsKind(
    'BadUri',
    () => deploymentUri(config, 'a', { A: 'hunter2' }),
    /^(?!.*hunter2).*must begin with mongodb/,
  );
  await rejectsKind(
    'BadUri',
    () => deploymentUri(config, 'a', { A: 'mongodb://u:hun/ter2@h' }),
    /^(?!.*ter2).*percent-encode/,
  );
  await rejectsKind(
    'StoreBadUri',
    () => configuredStores(config, { S: 'mongodb://' }),
    /the uri of blockstore.*names no host/,
  );
});

test('a uriFile holds the connection string, and one that cannot be read is named', async () => {
  await using folder = await testFolder();
  const config = parseConfig(join(folder.path, 'lifeboat.yaml'), 'deployments: { a: { uriFile: secret } }');
  const file = join(folder.path, 'secret');
  await rejectsKind('SecretMissing', () => deploymentUri(config, 'a', {}), new RegExp(file));
  await writeFile(file, ' \n');
  await rejectsKind('SecretMissing', () => deploymentUri(config, 'a', {}), /is empty/);
  await writeFile(file, 'mongodb://h/?replicaSet=a\n');
  assert.equal(await deploymentUri(config, 'a', {}), 'mongodb://h/?replicaSet=a');
});

test('a uriCommand is run without a shell, and what it prints is the connection string', async () => {
  await using folder = await testFolder();
  const script = join(folder.path, 'secret.sh');
  await writeFile(script, '#!/bin/sh\necho " mongodb://h/?replicaSet=$1 "\necho noise >&2\n', { mode: 0o700 });
  const config = parseConfig(
    join(folder.path, 'lifeboat.yaml'),
    'deployments: { a: { uriCommand: [./secret.sh, "$HOME"] }, b: { uriCommand: [printenv, B] } }',
  );
  assert.equal(await deploymentUri(config, 'a', {}), 'mongodb://h/?replicaSet=$HOME');
  const env = { PATH: process.env['PATH'], B: 'mongodb://b' };
  assert.equal(await deploymentUri(config, 'b', env), 'mongodb://b');
});

test('a uriCommand that fails is named with its exit code, and nothing that it printed or was given is shown', async () => {
  await using folder = await testFolder();
  const failing = (script: string): Config =>
    parseConfig(
      join(folder.path, 'lifeboat.yaml'),
      `deployments: { a: { uriCommand: ${JSON.stringify(['/bin/sh', '-c', script])} } }`,
    );
  for (const [script, message] of [
    [
      'echo mongodb://u:hunter2@h; echo hunter2 >&2; exit 3',
      /^(?!.*hunter2).*deployment a needs, ended with exit code 3/,
    ],
    ['kill -9 $$', /was ended by SIGKILL/],
    ['echo', /printed nothing/],
    ['head -c 100000 /dev/zero', /printed more than a connection string/],
  ] as const) {
    await rejectsKind('SecretCommandFailed', () => deploymentUri(failing(script), 'a', {}), message);
  }
  await rejectsKind('BadUri', () => deploymentUri(failing('echo hunter2'), 'a', {}), /^(?!.*hunter2).*must begin/);
  const absent = parseConfig(FILE, 'deployments: { a: { uriCommand: [./absent, hunter2] } }');
  await rejectsKind(
    'SecretCommandFailed',
    () => deploymentUri(absent, 'a', {}),
    /^(?!.*hunter2).*could not be executed/,
  );
});

test('a uriCommand that does not end is ended, with what it started', async () => {
  const commands = new SecretCommands({});
  await rejectsKind(
    'SecretCommandFailed',
    () => commands.read(['/bin/sh', '-c', 'sleep 3600 & sleep 3600'], 'a'),
    /did not end within 10 seconds/,
  );
});

test('what a command printed is used for a while, and not after it turned out to be of no use', async () => {
  await using folder = await testFolder();
  const count = join(folder.path, 'count');
  const commands = new SecretCommands({});
  const read = (): Promise<string> => commands.read(['/bin/sh', '-c', `echo x >> ${count}; wc -l < ${count}`], 'a');
  assert.deepEqual(await Promise.all([read(), read()]), ['1', '1']);
  assert.equal(await read(), '1');
  commands.forget();
  assert.equal(await read(), '2');
});

test('a uri is shown as its hosts, and not at all where they cannot be told from a password', () => {
  assert.equal(redactUri({ uri: 'mongodb://u:p@a:1,b:2/db?x=y' }), 'mongodb://a:1,b:2');
  assert.equal(redactUri({ uri: 'mongodb+srv://u:p@cluster.example/' }), 'mongodb+srv://cluster.example');
  assert.equal(redactUri({ uri: '${SHOP_URI}' }), '${SHOP_URI}');
  assert.equal(redactUri({ uri: 'mongodb://${USER}:${PASS}@h' }), 'mongodb://h');
  assert.equal(redactUri({ uriFile: '/run/uri' }), '(in the file /run/uri)');
  assert.equal(redactUri({ uriCommand: ['vault', '-token=hunter2'] }), '(printed by vault)');
  for (const uri of ['mongodb://u:pass/word@h', 'mongodb://u:p@ss?word@h', 'mongodb://u:p@ss/word@h', 'pass']) {
    assert.equal(hostsOf(uri), '(not shown)', uri);
  }
});

test('the default file need not be there, a named one must, and it must be a file', async () => {
  await using folder = await testFolder();
  const config = await loadConfig({ cwd: folder.path });
  assert.equal(config.file, join(folder.path, 'lifeboat.yaml'));
  const refused = async (file: string, kind: ErrorName): Promise<void> => {
    await assert.rejects(loadConfig({ cwd: folder.path, file }), (error) => isLifeboatError(error, kind));
  };
  await refused('other.yaml', 'ConfigMissing');
  await mkdir(join(folder.path, 'folder'));
  await refused('folder', 'ConfigInvalid');
});

test('a watched file is followed; a broken edit leaves the last good one in effect and is told', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  const watched = await watchableConfig({ cwd: folder.path });
  const names = async (): Promise<string[]> => [...(await watched.read()).config.deployments.keys()];
  assert.deepEqual(await names(), []);
  await writeFile(file, 'deployments: { a: { uri: mongodb://h } }');
  assert.deepEqual(await names(), ['a']);
  await writeFile(file, 'deployments: { b: { url: mongodb://h } }');
  assert.deepEqual(await names(), ['a']);
  assert.match((await watched.read()).problem?.message ?? '', /did you mean "uri"/);
  await writeFile(`${file}.new`, 'deployments: { c: { uri: mongodb://h } }');
  await rename(`${file}.new`, file);
  assert.deepEqual(await names(), ['c']);
  assert.equal((await watched.read()).problem, null);
  await rm(file);
  assert.deepEqual(await names(), []);
});

test('a key that would be passed over in silence is refused with its line', () => {
  for (const source of [
    'deployments: { __proto__: { uri: mongodb://h } }',
    'deployments:\n  "__proto__":\n    uri: mongodb://h',
    '__proto__: { groom: 1 }',
  ]) {
    const { kind, message } = refusalOf(source);
    assert.equal(kind, 'ConfigInvalid');
    assert.match(message, /"__proto__" cannot be a key/);
  }
});

test('a pipe is refused, as a configuration and as a file of a connection string, and not waited for', async () => {
  await using folder = await testFolder();
  const pipe = join(folder.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  await assert.rejects(loadConfig({ cwd: folder.path, file: pipe }), (error) =>
    isLifeboatError(error, 'ConfigInvalid'),
  );
  const config = parseConfig(join(folder.path, 'lifeboat.yaml'), 'deployments: { a: { uriFile: pipe } }');
  await rejectsKind('SecretMissing', () => deploymentUri(config, 'a', {}), /cannot be read/);
});

test('a file that is empty, half or gone for a moment while it is saved in place takes no deployment away', async () => {
  await using folder = await testFolder();
  const file = join(folder.path, 'lifeboat.yaml');
  const [a, b] = ['deployments:\n  a: { uri: mongodb://h }\n', '  b: { uri: mongodb://h }\n'];
  await writeFile(file, a + b);
  const watched = await watchableConfig({ cwd: folder.path });
  const names = async (): Promise<string[]> => [...(await watched.read()).config.deployments.keys()];
  assert.deepEqual(await names(), ['a', 'b']);
  await writeFile(file, '');
  const during = names();
  await writeFile(file, a);
  await appendFile(file, `${b}# saved\n`);
  assert.deepEqual(await during, ['a', 'b']);
  await rm(file);
  const meanwhile = names();
  await writeFile(file, `${a}${b}# once more\n`);
  assert.deepEqual(await meanwhile, ['a', 'b']);
});

test('a secret that is empty for a moment while it is saved in place is read when it is whole', async () => {
  const answers = ['', 'mongodb://ne', 'mongodb://new', 'mongodb://new'];
  const read = (): string => {
    const text = answers.shift() ?? 'mongodb://new';
    if (text === '') throw new LifeboatError('SecretMissing', 'the file is empty');
    return text;
  };
  assert.equal(await steadily(read, 'mongodb://old'), 'mongodb://new');
  const missing = (): string => {
    throw new LifeboatError('SecretMissing', 'the file is gone');
  };
  await assert.rejects(steadily(missing, 'mongodb://old'), (error) => isLifeboatError(error, 'SecretMissing'));
});
