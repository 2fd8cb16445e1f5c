/** Runs all scenarios on one source with one backup, and tells for each in what head and source differ. */
import { MongoServerError } from 'mongodb';
import { mongodVersion } from '../../../src/mongod/binary.ts';
import type { EqualityReport } from '../../../src/proof/equality.ts';
import { DataPath } from '../data-path.ts';
import { startReplicaSet, type TestReplicaSet } from '../replica-set.ts';
import { MOMENTS, Place, type Moment, type Scenario } from './scenario.ts';

export interface Outcome {
  /** What differs, or could not be compared, in the databases of a scenario; '' is all that belongs to none. */
  readonly of: ReadonlyMap<string, readonly string[]>;
  /** Kinds of entries that the source wrote: operations, commands, forms of updates and of transactions. */
  readonly kinds: ReadonlySet<string>;
  readonly major: number;
}

interface Step {
  readonly scenario: Scenario;
  readonly at: 'before' | Moment;
  readonly run: () => Promise<unknown>;
}

const ALL_BUT_RESTARTED = MOMENTS.filter((moment) => moment !== 'restarted');

/** Runs the scenarios that the mongod can do. */
export async function runScenarios(
  binary: string,
  scenarios: readonly Scenario[],
  tell: (line: string) => void,
): Promise<Outcome> {
  const major = Number.parseInt(await mongodVersion(binary), 10);
  const able = scenarios.filter(({ from }) => from === undefined || from <= major);
  await using source = await startReplicaSet({
    binary,
    // Room for the large transactions of many scenarios beside one that stays open: of a full cache, the server rolls
    // the oldest back as a conflict.
    cacheGiB: 1,
    setParameters: {
      enableTestCommands: true,
      transactionLifetimeLimitSeconds: 3_600,
      // Builds that are held are not to hold up the others.
      maxNumActiveUserIndexBuilds: 20,
    },
  });
  // What has to be on a majority is waited for where it is read.
  await source.client.db('admin').command({ setDefaultRWConcern: 1, defaultWriteConcern: { w: 1 } });
  const steps = able.flatMap((scenario) => stepsOf(scenario, placesOf(source, major)));
  const begin = performance.now();
  const failures: string[] = [];
  const take = async (moment: 'before' | Moment): Promise<void> => {
    for (const { scenario, run } of steps.filter(({ at }) => at === moment)) {
      try {
        await within(run());
      } catch (error) {
        // The others are to be looked at nevertheless.
        failures.push(`${scenario.key}__${moment}: it could not be done: ${String(error)}`);
        tell(failures.at(-1) ?? '');
      }
    }
    tell(`${moment}: ${Math.round(performance.now() - begin)} ms so far`);
  };
  await take('before');
  await using path = await DataPath.open({ source: source.uri, mongod: binary, slicesInFlight: 4 });
  await path.initialSync(take);
  await take('routine');
  await writeToAll(source);
  await path.applyUntil(await path.newest());
  await path.restartHead();
  await take('restarted');
  const report = await path.prove();
  return { of: byScenario(report, failures, able), kinds: await kindsOf(source), major };
}

type MakePlace = (name: string, isLong: boolean) => Place;

function placesOf({ client, members }: TestReplicaSet, major: number): MakePlace {
  const primary = members[0]?.address ?? { port: 0 };
  return (name, isLong) => new Place({ client, primary, name, major, isLong });
}

function stepsOf(scenario: Scenario, make: MakePlace): Step[] {
  if ('course' in scenario) {
    const course = scenario.course(make(`${scenario.key}__time`, true));
    return (['before', ...MOMENTS] as const).flatMap((at) => {
      const run = course[at];
      return run ? [{ scenario, at, run }] : [];
    });
  }
  return (scenario.moments ?? ALL_BUT_RESTARTED).flatMap((at) => {
    const place = make(`${scenario.key}__${at}`, at === 'sliced');
    const { before, change } = scenario;
    return [
      ...(before ? [{ scenario, at: 'before' as const, run: () => before(place) }] : []),
      { scenario, at, run: () => change(place) },
    ];
  });
}

/** What a collection may refuse of it: a key that is taken, a document that is too large or not valid, a closed series. */
async function writeToAll({ client }: TestReplicaSet): Promise<void> {
  const { databases } = await client.db('admin').command({ listDatabases: 1, nameOnly: true });
  for (const { name } of databases as { name: string }[]) {
    if (!name.includes('__')) continue;
    const db = client.db(name);
    const collections = await db.listCollections({ type: 'collection' }).toArray();
    for (const { name: collection } of collections.filter((one) => !one.name.startsWith('system.'))) {
      try {
        await db.collection(collection).insertOne({ at: new Date(), key: 'later', later: true });
        await db.collection<{ _id: number }>(collection).updateOne({ _id: 1 }, { $set: { later: true } });
        await db.collection<{ _id: number }>(collection).deleteOne({ _id: 2 });
      } catch (error) {
        if (!(error instanceof MongoServerError)) throw error;
      }
    }
  }
}

function byScenario(
  { differences, notCompared }: EqualityReport,
  failures: readonly string[],
  scenarios: readonly Scenario[],
): Outcome['of'] {
  const found = new Map<string, string[]>(['', ...scenarios.map(({ key }) => key)].map((key) => [key, []]));
  const put = (what: string): void => {
    const key = what.includes('__') ? what.slice(0, what.indexOf('__')) : '';
    (found.get(key) ?? found.get(''))?.push(what);
  };
  for (const failure of failures) put(failure);
  for (const { namespace, ...what } of differences) put(`${namespace}: ${JSON.stringify(what)}`);
  for (const { namespace, reason } of notCompared) put(`${namespace}: ${reason}`);
  return found;
}

interface Entry {
  readonly op: string;
  /** Names of the fields of its object. */
  readonly fields: readonly string[] | null;
  readonly needsRetryImage?: string;
}

async function kindsOf({ client }: TestReplicaSet): Promise<Set<string>> {
  const fields = { $map: { input: { $objectToArray: '$o' }, in: '$$this.k' } };
  const kinds = new Set<string>();
  const oplog = client.db('local').collection('oplog.rs');
  const entries = oplog.aggregate<Entry>([{ $project: { op: 1, needsRetryImage: 1, fields } }]);
  for await (const entry of entries) for (const kind of kindsIn(entry)) kinds.add(kind);
  return kinds;
}

function kindsIn({ op, fields, needsRetryImage }: Entry): string[] {
  const [first = '', ...others] = fields ?? [];
  const difference = others.includes('diff') ? '$v:2' : '$v:1';
  return [
    op === 'c' ? first : op === 'u' ? (first === '$v' ? difference : 'replacement') : op,
    ...(op === 'c' ? others.filter((name) => name === 'partialTxn' || name === 'prepare') : []),
    ...(needsRetryImage === undefined ? [] : ['needsRetryImage']),
  ];
}

/** What a step on the source may take, in milliseconds: one that waits for another for ever is told by its name. */
const PATIENCE_MS = 30_000;

async function within(step: Promise<unknown>): Promise<void> {
  const timeout = AbortSignal.timeout(PATIENCE_MS);
  const over = new Promise<never>((_, reject) => {
    timeout.addEventListener('abort', () => reject(new Error('it did not come to an end')));
  });
  await Promise.race([step, over]);
}
