/** The embedded servers of a home, on real processes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Connection } from '@temporalio/client';
import { MongoClient } from 'mongodb';
import { usablePort } from '../src/embedded/ports.ts';
import { down, findBlockstore, readUp, up, type UpState } from '../src/embedded/up.ts';
import { endProcess, findProcesses } from '../src/host/processes.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { freePort, until } from './support/replica-set.ts';

const servers = { worker: false } as const;

async function processesOf(home: string): Promise<{ mongod: number[]; temporal: number[]; worker: number[] }> {
  const found = await findProcesses((words) => words.some((word) => word.startsWith(`${home}/`)));
  const pids = (flag: string): number[] => found.filter(({ words }) => words.includes(flag)).map(({ pid }) => pid);
  const worker = (await findProcesses((words) => words.includes('worker') && words.includes(home))).map(
    ({ pid }) => pid,
  );
  return { mongod: pids('--dbpath'), temporal: pids('--db-filename'), worker };
}

async function killed(pid: number | undefined): Promise<void> {
  assert.ok(pid !== undefined);
  process.kill(pid, 'SIGKILL');
  await until(async () => !(await findProcesses(() => true)).some((found) => found.pid === pid), `${pid} is gone`);
}

async function answer({ temporal, blockstore }: UpState): Promise<void> {
  const connection = await Connection.connect({ address: temporal.address });
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({
      namespace: temporal.namespace,
    });
    assert.ok('LifeboatDeployment' in customAttributes && 'LifeboatPhase' in customAttributes);
  } finally {
    await connection.close();
  }
  const page = await fetch(temporal.ui);
  assert.equal(page.status, 200);
  await page.body?.cancel();
  const client = await MongoClient.connect(blockstore.uri);
  try {
    await client
      .db('test')
      .collection('marks')
      .insertOne({ at: new Date() }, { writeConcern: { w: 'majority' } });
  } finally {
    await client.close();
  }
}

async function marks({ blockstore }: UpState): Promise<number> {
  const client = await MongoClient.connect(blockstore.uri);
  try {
    return await client.db('test').collection('marks').countDocuments();
  } finally {
    await client.close();
  }
}

/** Runs `body` on a home of its own, and ends what it started even when it fails. */
async function onHome(body: (home: string, folder: TestFolder) => Promise<void>): Promise<void> {
  await using folder = await testFolder();
  const home = join(folder.path, 'home');
  try {
    await body(home, folder);
  } finally {
    await down(home);
    assert.deepEqual(await processesOf(home), { mongod: [], temporal: [], worker: [] });
  }
}

test('up starts each server once, also when two run at the same time, and a later up finds them', async () => {
  await onHome(async (home) => {
    assert.equal(await readUp(home), undefined);
    const [first, second] = await Promise.all([up(home, servers), up(home, servers)]);
    assert.deepEqual(second, first);
    const before = await processesOf(home);
    assert.equal(before.mongod.length, 1);
    assert.equal(before.temporal.length, 1);
    assert.deepEqual(await up(home, servers), first);
    assert.deepEqual(await processesOf(home), before);
    assert.deepEqual(await readUp(home), first);
    await answer(first);
  });
});

test('a process that was ended has let go of what it had open', async () => {
  // Freeing its memory, which the kernel does first, takes it a while.
  const code = `const kept = Buffer.alloc(1 << 30, 1);
    require('node:net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().port, kept.length); });`;
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number.parseInt(said.toString(), 10);
  const [found] = await findProcesses((words) => words.includes(code));
  assert.ok(found);
  await endProcess(found, 0);
  const server = createServer().listen({ host: '127.0.0.1', port });
  await once(server, 'listening');
  server.close();
});

test('a port that is kept is waited for while a process that was killed lets go of it, and no longer than that', async () => {
  const server = createServer().listen({ host: '127.0.0.1', port: await freePort() });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const other = await usablePort(port);
  assert.notEqual(other, port);
  const waiting = usablePort(port);
  server.close();
  assert.equal(await waiting, port);
  assert.notEqual(await usablePort(port, [port]), port);
});

test('a killed server comes back with the next up, on its port and with its data', async () => {
  await onHome(async (home) => {
    const first = await up(home, servers);
    await answer(first);
    const { mongod, temporal } = await processesOf(home);
    await killed(mongod[0]);
    assert.equal(await readUp(home), undefined);
    assert.deepEqual(await up(home, servers), first);
    assert.equal(await marks(first), 1);
    await killed(temporal[0]);
    assert.deepEqual(await up(home, servers), first);
    await answer(first);
  });
});

test('down ends them cleanly and keeps the data, and does nothing when nothing runs', async () => {
  await onHome(async (home) => {
    assert.deepEqual(await down(home), { ended: [] });
    const first = await up(home, servers);
    await answer(first);
    assert.deepEqual(await down(home), { ended: ['temporal', 'blockstore'] });
    assert.equal(await readUp(home), undefined);
    // A mongod that was shut down cleanly leaves an empty lock file.
    assert.equal(await readFile(join(home, 'blockstore', 'mongod.lock'), 'utf8'), '');
    assert.deepEqual(await down(home), { ended: [] });
    assert.deepEqual(await up(home, servers), first);
    assert.equal(await marks(first), 1);
  });
});

/**
 * Somebody else on a port of a server that has just ended. A process that is no longer listed may hold its sockets for
 * a moment yet, until its last thread has ended.
 */
async function squatterOn(address: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  const listens = async (): Promise<boolean> => {
    server.listen(Number(address.split(':')[1]), '127.0.0.1');
    return once(server, 'listening').then(
      () => true,
      () => false,
    );
  };
  await until(listens, `${address} is free`);
  return server;
}

test('ports that somebody else has taken meanwhile are given up, and the blockstore keeps its data on a new one', async () => {
  await onHome(async (home) => {
    const first = await up(home, servers);
    await answer(first);
    await down(home);
    const taken = [first.temporal.address, new URL(first.temporal.ui).host, new URL(first.blockstore.uri).host];
    await using squatters = new AsyncDisposableStack();
    for (const address of taken) squatters.use(await squatterOn(address));
    const second = await up(home, servers);
    assert.notEqual(second.temporal.address, first.temporal.address);
    assert.notEqual(second.temporal.ui, first.temporal.ui);
    assert.notEqual(second.blockstore.uri, first.blockstore.uri);
    assert.equal(await marks(second), 1);
    await answer(second);
  });
});

test('the servers of another home are left alone, even when its name begins the same', async () => {
  await onHome(async (home) => {
    await up(home, servers);
    const other = `${home}-other`;
    const theirs = await up(other, servers);
    try {
      await down(home);
      await answer(theirs);
    } finally {
      await down(other);
    }
  });
});

test('up brings a killed worker back, and moves it along when a server has moved', async () => {
  await onHome(async (home, folder) => {
    const configFile = join(folder.path, 'lifeboat.yaml');
    await writeFile(configFile, '');
    const options = { configFile, env: { ...process.env, LIFEBOAT_RUN_SOURCES: '1' } };
    const first = await up(home, options);
    assert.ok(first.worker);
    assert.deepEqual(await up(home, options), first);
    await killed(first.worker.pid);
    assert.equal((await readUp(home))?.worker, null);
    const second = await up(home, options);
    assert.ok(second.worker);
    assert.notEqual(second.worker.pid, first.worker.pid);
    assert.deepEqual(second.blockstore, first.blockstore);

    const [temporal] = (await processesOf(home)).temporal;
    await killed(temporal);
    {
      await using squatters = new AsyncDisposableStack();
      squatters.use(await squatterOn(first.temporal.address));
      const third = await up(home, options);
      assert.notEqual(third.temporal.address, first.temporal.address);
      assert.notEqual(third.worker?.pid, second.worker.pid);
      assert.equal((await processesOf(home)).worker.length, 1);
    }
    assert.deepEqual(await down(home), { ended: ['worker', 'temporal', 'blockstore'] });
  });
});

test('up finds that a worker was stopped and does not answer, and replaces it', async () => {
  await onHome(async (home, folder) => {
    const configFile = join(folder.path, 'lifeboat.yaml');
    await writeFile(configFile, '');
    const options = { configFile, env: { ...process.env, LIFEBOAT_RUN_SOURCES: '1' } };
    const first = await up(home, options);
    assert.ok(first.worker);
    process.kill(first.worker.pid, 'SIGSTOP');
    const second = await up(home, options);
    assert.notEqual(second.worker?.pid, first.worker.pid);
    assert.equal((await processesOf(home)).worker.length, 1);
    const [blockstore] = (await processesOf(home)).mongod;
    await killed(blockstore);
    assert.deepEqual(await findBlockstore(home), { uri: second.blockstore.uri, runs: false });
    await down(home);
    assert.equal(await findBlockstore(home), undefined);
  });
});

test('a server that cannot start is named with its log', async () => {
  await onHome(async (home) => {
    await up(home, servers);
    await down(home);
    await writeFile(join(home, 'temporal.db'), 'not a database');
    await assert.rejects(up(home, servers), (error) => {
      assert.ok(isLifeboatError(error, 'EmbeddedFailed'), String(error));
      assert.match(error.message, /temporal\.log/);
      return true;
    });
  });
});

test('every port that is opened is on the loopback interface', { skip: process.platform !== 'linux' }, async () => {
  await onHome(async (home) => {
    await up(home, servers);
    const { mongod, temporal } = await processesOf(home);
    for (const pid of [...mongod, ...temporal]) {
      const sockets = await socketsOf(pid);
      const open = (await listening()).filter(({ inode }) => sockets.has(inode));
      assert.ok(open.length > 0);
      for (const { address } of open)
        assert.match(address, /^(0100007F|0{24}01000000|0000000000000000FFFF00000100007F):/);
    }
  });
});

/** What listens on this machine: `/proc/net/tcp`, state 0A. */
async function listening(): Promise<{ address: string; inode: string }[]> {
  const texts = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')));
  return texts.flatMap((text) =>
    text.split('\n').flatMap((line) => {
      const words = line.trim().split(/\s+/);
      return words[3] === '0A' ? [{ address: words[1] ?? '', inode: words[9] ?? '' }] : [];
    }),
  );
}

async function socketsOf(pid: number): Promise<Set<string>> {
  const names = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
  return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
}
