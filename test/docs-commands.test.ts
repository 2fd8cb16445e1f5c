/**
 * The commands of the documents, run in their order on real servers, so that none is told that does not work.
 *
 * What they run with is a folder of its own: `/srv` is a folder in it, its ports (27027, 27117, …) are free ones, and db1,db2,db3 is a
 * replica set of the test. `mongosh` is a stand-in of the test (support/mongosh.ts). Words in capitals are taken from what a command before has printed.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Binary, type MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { down, readUp, type UpState } from '../src/embedded/up.ts';
import { findProcesses } from '../src/host/processes.ts';
import { errorKind } from '../src/shared/errors.ts';
import { readStatus } from '../src/status/backup-status.ts';
import { DAEMON_BREAK_MS } from '../src/stores/daemons.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { stepsOf, type Step } from './support/document.ts';
import { testFolder } from './support/folders.ts';
import { freePort, until } from './support/replica-set.ts';
import { startSecuredSet, PASSWORD } from './support/secured-set.ts';
import { endHead, startWorker } from './support/worker.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COMMAND_LIMIT_MS = 180_000;

/** Words in capitals, and what they are in the output of the commands before: the last that is found. */
const PLACEHOLDERS = {
  ID: /\b(shop-\d{8}T\d{6}Z-[0-9a-f]{6})\b/g,
  RESTORE: /\b(\d{8}t\d{6}z-[0-9a-f]{6})\b/g,
  DAEMON: /^(\S+) .* shop$/gm,
  OLDER: /^(shop-\d{8}T\d{6}Z-[0-9a-f]{6}) .*no tier is configured$/gm,
  DAMAGED: /^Snapshot (\S+) is DAMAGED/gm,
  OPTIME: /^restorable: .*?(\d+,\d+) [^,]*$/gm,
} as const;

type Words = Readonly<Record<string, () => Promise<void>>>;

/** Those of the documents, and no other that looks alike: an embedded server may have any port. */
const PORTS = /\b(?:27027|27028|27117|27118)\b/g;

interface World extends AsyncDisposable {
  readonly folder: string;
  readonly home: string;
  /** Runs one command as the document has it; its standard output. */
  run(command: string, expected?: 0 | 1): Promise<string>;
  follow(steps: readonly Step[], words?: Words): Promise<void>;
}

/** @param hosts what stands for db1,db2,db3 */
async function startWorld(hosts = ''): Promise<World> {
  const stack = new AsyncDisposableStack();
  const folder = stack.use(await testFolder()).path;
  const home = join(folder, '.lifeboat');
  stack.defer(async () => {
    await down(home);
    await endProcessesBelow(folder);
  });
  const [tools, mongod, temporal] = [join(folder, 'tools'), await findBinary('mongod'), await findBinary('temporal')];
  await mkdir(tools);
  await mkdir(join(folder, 'srv'));
  const script = async (name: string, lines: readonly string[]): Promise<void> => {
    await writeFile(join(tools, name), `#!/bin/sh\n${lines.join('\n')}\n`);
    await chmod(join(tools, name), 0o755);
  };
  const node = `exec '${process.execPath}'`;
  await script('lifeboat', [`${node} '${join(ROOT, 'bin', 'lifeboat.mjs')}' "$@"`]);
  await script('npx', ['"$@"']);
  await script('mongosh', [`${node} '${join(ROOT, 'test', 'support', 'mongosh.ts')}' "$@"`]);
  await script('mongod', [
    `case " $* " in *" --shutdown "*) exec '${mongod}' "$@";; esac`,
    `case " $* " in *" --port "*) ;; *) set -- "$@" --port ${await freePort()};; esac`,
    `exec '${mongod}' "$@" --wiredTigerCacheSizeGB 0.25`,
  ]);
  const exports = join(folder, 'exports');
  await writeFile(exports, '');
  const env = {
    PATH: [tools, dirname(process.execPath), process.env['PATH']].join(delimiter),
    HOME: folder,
    LIFEBOAT_RUN_SOURCES: '1',
    LIFEBOAT_MONGOD: mongod,
    LIFEBOAT_TEMPORAL: temporal,
    ...(process.env['LIFEBOAT_CACHE'] === undefined ? {} : { LIFEBOAT_CACHE: process.env['LIFEBOAT_CACHE'] }),
  };
  const ports = new Map<string, number>();
  let printed = '';

  const placed = async (command: string): Promise<string> => {
    for (const [port] of command.matchAll(PORTS)) {
      if (!ports.has(port)) ports.set(port, await freePort());
    }
    return command
      .replaceAll(PORTS, (port) => String(ports.get(port)))
      .replaceAll(/(?<![\w/])\/srv\b/g, join(folder, 'srv'))
      .replaceAll('db1,db2,db3', hosts)
      .replaceAll(/\b(ID|RESTORE|DAEMON|OLDER|DAMAGED|OPTIME)\b/g, (word) => {
        const found = [...printed.matchAll(PLACEHOLDERS[word as keyof typeof PLACEHOLDERS])].at(-1)?.[1];
        assert.ok(found, `no command before "${command}" has printed a ${word}`);
        return found;
      });
  };

  const run: World['run'] = async (command, expected = 0) => {
    const words = await placed(command);
    if (words.startsWith('export ')) await appendFile(exports, `${words}\n`);
    // A mongod in the foreground is looked at until it is there, and ended.
    const serves = words.startsWith('mongod ') && !/ --(fork|shutdown)\b/.test(words);
    const child = spawn('sh', ['-c', `. '${exports}'\n${serves ? 'exec ' : ''}${words}`], {
      cwd: folder,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: what hangs is ended with all that it has started.
      detached: true,
    });
    const closed = once(child, 'close');
    const limit = setTimeout(() => process.kill(-(child.pid ?? NaN), 'SIGKILL'), COMMAND_LIMIT_MS);
    let [stdout, stderr] = ['', ''];
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (serves && stdout.includes('Waiting for connections')) child.kill('SIGTERM');
    });
    const [code] = (await closed) as [number | null];
    clearTimeout(limit);
    assert.equal(code, expected, `${command}\n${serves ? '' : stdout}${stderr}`);
    if (!serves) printed += stdout;
    return stdout;
  };

  const follow: World['follow'] = async (steps, given = {}) => {
    for (const step of steps) {
      if (step.kind === 'word') {
        const act = given[step.word];
        assert.ok(act, `the test does not know "${step.word}"`);
        await act();
      } else if (step.kind === 'block') {
        const answers: string[] = [];
        for (const [n, command] of step.commands.entries()) {
          const isLast = n === step.commands.length - 1;
          answers.push(await run(command, step.fails && isLast ? 1 : 0));
        }
        if (step.sameAnswers) assert.match(answers[0] ?? '', /^'[0-9a-f]{32}'\n$/);
        if (step.sameAnswers) assert.equal(new Set(answers).size, 1, answers.join('\n'));
      }
    }
  };

  return { folder, home, run, follow, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function endProcessesBelow(folder: string): Promise<void> {
  const below = () => findProcesses((words) => words.some((word) => word.startsWith(`${folder}/`)));
  for (const { pid } of await below()) process.kill(pid, 'SIGKILL');
  await until(async () => (await below()).length === 0, 'nothing runs any more');
}

async function upOf({ home }: World): Promise<UpState> {
  const state = await readUp(home);
  assert.ok(state);
  return state;
}

test('the blocks that are not run are these, and the documents say why', async () => {
  const notRun: [string, string][] = [];
  for (const [path, section] of [
    ['README.md', 'A real deployment'],
    ['docs/tutorial.md'],
    ...RUNBOOKS.map((name) => [name]),
  ]) {
    for (const step of await stepsOf(path ?? '', section))
      if (step.kind === 'not run') notRun.push([path ?? '', step.why]);
  }
  assert.deepEqual(notRun, [
    ['README.md', 'npm test begins with it'],
    ['docs/tutorial.md', 'npm test begins with it'],
    ['docs/runbooks/lost-daemon.md', 'there is no such service'],
  ]);
});

/** The one that moves the backup to another daemon comes last. */
const RUNBOOKS = ['restore', 'damaged-blocks', 'full-blockstore', 'gap', 'lost-daemon'].map(
  (name) => `docs/runbooks/${name}.md`,
);

test('every command of the tutorial works, and what it restores equals its source', async () => {
  await using world = await startWorld();
  await world.follow(await stepsOf('docs/tutorial.md'));
});

/** In MB. Entries behind the last checkpoint are never cut off, and there is one a minute by default. */
const SHORT_OPLOG = ['--oplogSize', '8', '--syncdelay', '1'];

test('every command of the README and then of the runbooks works', async (t) => {
  await using source = await startSecuredSet('shop', ['backup', 'clusterMonitor'], false, SHORT_OPLOG);
  await source.root.db('admin').command({ createUser: 'backup', pwd: 'secret', roles: ['backup', 'clusterMonitor'] });
  const shop = source.root.db('shop');
  await shop
    .collection('orders')
    .insertMany(Array.from({ length: 300 }, () => ({ bytes: new Binary(randomBytes(4_000)) })));
  const hosts = new URL(source.set.uri).host;
  await using world = await startWorld(hosts);
  const { folder, home } = world;
  await t.test('README.md', async () => world.follow(await stepsOf('README.md', 'A real deployment')));

  await using stack = new AsyncDisposableStack();
  const { blockstore, temporal } = await upOf(world);
  const stores = await openStores({ blockstore: blockstore.uri });
  stack.defer(() => stores.close());
  const admin = `mongodb://root:${encodeURIComponent(PASSWORD)}@${hosts}/?directConnection=true`;
  await world.run(`export ADMIN_URI='${admin}' BLOCKSTORE_URI='${blockstore.uri}'`);
  const isRoutine = async (deployment: string): Promise<boolean> =>
    (await readStatus(stores, deployment)).phase === 'routine';

  const words: Words = {
    'then the set made from the restore is ended': () => endProcessesBelow(join(folder, 'srv')),
    'given a damaged block': () => damage(stores),
    'given two snapshots more': async () => {
      for (let n = 0; n < 2; n += 1) await world.run('lifeboat snapshots create shop --wait');
    },
    'given a deployment old': async () => {
      await world.run('lifeboat deployments add old --uri-env SHOP_URI');
      await world.run('lifeboat backup start old --wait');
    },
    'given a gap': async () => {
      await world.run('lifeboat backup pause shop');
      await lose(source.root);
      await world.run('lifeboat backup resume shop');
      const isNoticed = async (): Promise<boolean> => {
        const { phase, problem } = await readStatus(stores, 'shop');
        return phase === 'resync-needed' && problem?.code === errorKind('OplogGap').code;
      };
      await until(isNoticed, 'the gap is noticed', 60_000);
    },
    'when the phase of shop is routine': () => until(() => isRoutine('shop'), 'the resync is over', 120_000),
    'given a second daemon, and a first one that is gone': async () => {
      const configFile = join(folder, 'second.yaml');
      const uri = `mongodb://backup:secret@${hosts}/?replicaSet=shop&authSource=admin`;
      const config = { daemon: { id: 'second' }, blockstore, deployments: { shop: { uri } } };
      await writeFile(configFile, JSON.stringify(config));
      const second = join(folder, 'second');
      await mkdir(second);
      const env = { TEMPORAL_ADDRESS: temporal.address, TEMPORAL_NAMESPACE: temporal.namespace };
      stack.use(await startWorker({ configFile, home: second, env }));
      const { worker } = await upOf(world);
      assert.ok(worker);
      process.kill(worker.pid, 'SIGKILL');
      await endHead(home, 'shop', 'shop');
      const isSilent = async (): Promise<boolean> => {
        const first = await stores.daemons.findOne({ _id: { $ne: 'second' } });
        return first !== null && (await stores.now()).getTime() - first.seenAt.getTime() > DAEMON_BREAK_MS;
      };
      await until(isSilent, 'the first daemon is silent', 60_000);
    },
    'when the backup of shop has moved': async () => {
      const hasMoved = async (): Promise<boolean> => {
        const { phase, members } = await readStatus(stores, 'shop');
        return phase === 'routine' && members[0]?.daemon === 'second' && members[0].appliedThrough !== null;
      };
      await until(hasMoved, 'the second daemon has taken over', 120_000);
    },
  };
  for (const runbook of RUNBOOKS) {
    await rm(join(folder, 'srv'), { recursive: true });
    await mkdir(join(folder, 'srv'));
    await t.test(runbook, async () => world.follow(await stepsOf(runbook), words));
  }
});

/** Flips a bit of a block of documents, which every snapshot of the head holds. */
async function damage(stores: Stores): Promise<void> {
  const block = await stores.blocks.findOne({ size: 65_536, codec: 'none' });
  assert.ok(block);
  const bad = Buffer.from(block.data.buffer);
  bad.writeUInt8(bad.readUInt8(100) ^ 1, 100);
  await stores.blocks.updateOne({ _id: block._id }, { $set: { data: new Binary(bad) } });
}

/** Writes until the newest entry of now has been cut off the oplog. */
async function lose(client: MongoClient): Promise<void> {
  const { lastWrite } = await client.db('admin').command({ hello: 1 });
  const oplog = client.db('local').collection('oplog.rs');
  const flood = client.db('flood').collection('things');
  await until(
    async () => {
      await flood.insertMany(Array.from({ length: 8 }, () => ({ bytes: randomBytes(500_000) })));
      return (await oplog.countDocuments({ ts: { $lte: lastWrite.opTime.ts } }, { limit: 1 })) === 0;
    },
    'the oplog begins later',
    90_000,
  );
  await flood.drop();
}
