/** Oplog entries applied a second: ours from the oplog store to a head, beside `mongorestore --oplogReplay`. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DataPath } from '../../test/support/data-path.ts';
import { until } from '../../test/support/replica-set.ts';
import { compareOptimes } from '../../src/shared/optime.ts';
import { endOfChain } from '../../src/oplogstore/batches.ts';
import { REPLAYED, writeOperations } from '../data.ts';
import { runPeer, type Peers } from '../peers.ts';
import { startServer } from '../servers.ts';

/** Entries a second. */
export interface EntryRates {
  readonly ours: number;
  /** Undefined where it is not installed. */
  readonly standalone: number | undefined;
  readonly replicaSet: number | undefined;
}

export interface EntriesBench {
  readonly binary: string;
  readonly folder: string;
  readonly peers: Peers;
  readonly entries: number;
  /** mongorestore takes many times as long: fewer are enough for a rate. */
  readonly entriesOfPeer: number;
}

export async function entryRates(bench: EntriesBench): Promise<EntryRates> {
  return { ours: await ourRate(bench), ...(await peerRates(bench)) };
}

async function ourRate({ binary, folder, entries }: EntriesBench): Promise<number> {
  await using source = await startServer({ binary, folder, name: 'entries', replSet: 'src' });
  await using path = await DataPath.open({ source: `${source.uri}&replicaSet=src` });
  await path.initialSync();
  await writeOperations(source.client, entries);
  const newest = await path.newest();
  await until(
    async () => {
      const end = await endOfChain(path.stores, path.fence.incarnation);
      return end !== null && compareOptimes(end.ts, newest.ts) >= 0;
    },
    'all entries are stored',
    600_000,
  );
  const from = performance.now();
  await path.applyUntil(newest);
  return entries / ((performance.now() - from) / 1000);
}

async function peerRates(bench: EntriesBench): Promise<Omit<EntryRates, 'ours'>> {
  const { binary, folder, peers, entriesOfPeer } = bench;
  const [dump, restore] = [peers.get('mongodump'), peers.get('mongorestore')];
  if (dump === undefined || restore === undefined) return { standalone: undefined, replicaSet: undefined };
  await using source = await startServer({ binary, folder, name: 'entries-peer', replSet: 'src' });
  await writeOperations(source.client, entriesOfPeer);
  const dumped = join(folder, 'dumped');
  const query = JSON.stringify({ ns: { $regex: `^${REPLAYED}[.]` } });
  await runPeer(dump, [`--uri=${source.uri}`, '-d=local', '-c=oplog.rs', `-q=${query}`, `--out=${dumped}`, '--quiet']);
  const oplogFile = join(dumped, 'local', 'oplog.rs.bson');
  const empty = join(folder, 'empty');
  await mkdir(empty, { recursive: true });
  const rate = async (replSet?: string): Promise<number> => {
    const name = `replay-${replSet ?? 'standalone'}`;
    await using target = await startServer({ binary, folder, name, ...(replSet === undefined ? {} : { replSet }) });
    const args = [`--uri=${target.uri}`, '--oplogReplay', `--oplogFile=${oplogFile}`, `--dir=${empty}`, '--quiet'];
    return entriesOfPeer / (await runPeer(restore, args)).seconds;
  };
  return { standalone: await rate(), replicaSet: await rate('dst') };
}
