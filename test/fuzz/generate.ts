/** Workloads by chance: a seed gives the same one again. */
import fc from 'fast-check';
import {
  COLLECTION_KINDS,
  COLLECTIONS,
  DATABASES,
  IDS,
  SHAPES,
  type Client,
  type DisturbancePlan,
  type DocumentOperation,
  type Namespace,
  type Operation,
  type Step,
  type Stop,
  type Which,
  type Workload,
} from './operations.ts';
import { CHANGE_COUNT, INDEXES, MODIFICATION_COUNT, NUMBERS } from './values.ts';

/** How much a workload is made of. */
export interface Size {
  readonly clients: number;
  readonly stepsEach: number;
}

export const USUAL_SIZE: Size = { clients: 4, stepsEach: 60 };

type Of<K extends Operation['kind']> = fc.Arbitrary<Extract<Operation, { readonly kind: K }>>;

const db = fc.constantFrom(...DATABASES);
// Most of it in one collection, so that what happens to it happens while something else does.
const ns: fc.Arbitrary<Namespace> = fc.oneof(
  { weight: 3, arbitrary: fc.constant('alpha.a' as const) },
  {
    weight: 7,
    arbitrary: fc.tuple(db, fc.constantFrom('a', 'b', 'c', 'd')).map(([of, name]): Namespace => `${of}.${name}`),
  },
);
const anyNs = fc.tuple(db, fc.constantFrom(...COLLECTIONS)).map(([of, name]): Namespace => `${of}.${name}`);
const madeNs = db.map((of): Namespace => `${of}.e`);
const id = fc.nat(IDS - 1);
const salt = fc.nat(100_000);
const which: fc.Arbitrary<Which> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ id }) },
  { weight: 1, arbitrary: fc.record({ n: fc.nat(NUMBERS - 1) }) },
);
const seldom = fc.constantFrom(false, false, false, true);
const shape = fc.constantFrom(...SHAPES, 'flat' as const, 'keyed' as const);
const change = fc.nat(CHANGE_COUNT - 1);
const openMs = fc.oneof({ weight: 3, arbitrary: fc.nat(30) }, { weight: 1, arbitrary: fc.nat(1_500) });
const end = fc.constantFrom('commit' as const, 'commit' as const, 'abort' as const);

const insert: Of<'insert'> = fc.record({
  kind: fc.constant('insert'),
  ns,
  ids: fc.uniqueArray(id, { minLength: 1, maxLength: 8 }),
  shape,
  salt,
  ordered: fc.boolean(),
});
const update: Of<'update'> = fc.record({
  kind: fc.constant('update'),
  ns,
  which,
  change,
  salt,
  many: fc.boolean(),
  upsert: seldom,
});
const replace: Of<'replace'> = fc.record({
  kind: fc.constant('replace'),
  ns,
  which,
  shape,
  salt,
  upsert: fc.boolean(),
});
const remove: Of<'delete'> = fc.record({ kind: fc.constant('delete'), ns, which, many: seldom });
const findAndModify: Of<'findAndModify'> = fc.record({
  kind: fc.constant('findAndModify'),
  ns,
  which,
  change,
  salt,
  as: fc.constantFrom('before', 'after', 'remove'),
});
const moveKey: Of<'moveKey'> = fc.record({ kind: fc.constant('moveKey'), ns, from: id, to: id });
const documents: fc.Arbitrary<DocumentOperation> = fc.oneof(
  { weight: 6, arbitrary: insert },
  { weight: 8, arbitrary: update },
  { weight: 4, arbitrary: replace },
  { weight: 4, arbitrary: remove },
  { weight: 2, arbitrary: findAndModify },
  { weight: 2, arbitrary: moveKey },
);

const insertExactly: Of<'insertExactly'> = fc.record({
  kind: fc.constant('insertExactly'),
  ns,
  ids: fc.uniqueArray(id, { minLength: 1, maxLength: 3 }),
  salt,
});
const transaction: Of<'transaction'> = fc.record({
  kind: fc.constant('transaction'),
  operations: fc.array(documents, { minLength: 1, maxLength: 8 }),
  end,
  largeParts: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3),
  openMs,
});
const prepared: Of<'prepared'> = fc.record({
  kind: fc.constant('prepared'),
  ns: fc.uniqueArray(ns, { minLength: 1, maxLength: 2 }),
  id,
  salt,
  end,
  openMs,
});
const series: Of<'series'> = fc.record({
  kind: fc.constant('series'),
  ns,
  salt,
  count: fc.integer({ min: 1, max: 12 }),
});

const create: Of<'create'> = fc.record({
  kind: fc.constant('create'),
  ns,
  as: fc.constantFrom(...COLLECTION_KINDS),
  salt,
});
const drop: Of<'drop'> = fc.record({ kind: fc.constant('drop'), ns: anyNs });
const dropDatabase: Of<'dropDatabase'> = fc.record({ kind: fc.constant('dropDatabase'), db });
const rename: Of<'rename'> = fc.record({
  kind: fc.constant('rename'),
  from: anyNs,
  to: anyNs,
  dropTarget: fc.boolean(),
});
const renameInCircle: Of<'renameInCircle'> = fc.record({
  kind: fc.constant('renameInCircle'),
  db,
  collections: fc.uniqueArray(fc.constantFrom(...COLLECTIONS), { minLength: 2, maxLength: 3 }),
});
const convertToCapped: Of<'convertToCapped'> = fc.record({
  kind: fc.constant('convertToCapped'),
  ns,
  bytes: fc.constantFrom(4_096, 65_536, 1 << 20),
});
const collMod: Of<'collMod'> = fc.record({
  kind: fc.constant('collMod'),
  ns,
  change: fc.nat(MODIFICATION_COUNT - 1),
  salt,
});
const createIndex: Of<'createIndex'> = fc.record({
  kind: fc.constant('createIndex'),
  ns,
  index: fc.nat(INDEXES.length - 1),
});
const dropIndex: Of<'dropIndex'> = fc.record({
  kind: fc.constant('dropIndex'),
  ns,
  index: fc.option(fc.nat(INDEXES.length - 1), { freq: 4 }),
});
const createInTransaction: Of<'createInTransaction'> = fc.record({
  kind: fc.constant('createInTransaction'),
  ns: madeNs,
  end,
});
const action = fc.constantFrom('create' as const, 'update' as const, 'drop' as const);
const user: Of<'user'> = fc.record({ kind: fc.constant('user'), db, name: fc.nat(1), action });
const role: Of<'role'> = fc.record({ kind: fc.constant('role'), db, name: fc.nat(1), action });

const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 60, arbitrary: documents },
  { weight: 3, arbitrary: insertExactly },
  { weight: 7, arbitrary: transaction },
  { weight: 2, arbitrary: prepared },
  { weight: 3, arbitrary: series },
  { weight: 6, arbitrary: create },
  { weight: 3, arbitrary: drop },
  { weight: 1, arbitrary: dropDatabase },
  { weight: 4, arbitrary: rename },
  { weight: 2, arbitrary: renameInCircle },
  { weight: 2, arbitrary: convertToCapped },
  { weight: 4, arbitrary: collMod },
  { weight: 7, arbitrary: createIndex },
  { weight: 3, arbitrary: dropIndex },
  { weight: 2, arbitrary: createInTransaction },
  { weight: 1, arbitrary: user },
  { weight: 1, arbitrary: role },
);

/** What there is to be copied: collections of every kind first, then what fills them. */
const before: fc.Arbitrary<Operation[]> = fc
  .tuple(
    fc.uniqueArray(create, { minLength: 2, maxLength: 8, size: 'max', selector: (one) => one.ns }),
    fc.array(
      fc.oneof(
        { weight: 8, arbitrary: insert },
        { weight: 2, arbitrary: insertExactly },
        { weight: 4, arbitrary: createIndex },
        { weight: 2, arbitrary: series },
        { weight: 1, arbitrary: operation },
      ),
      { minLength: 10, maxLength: 50, size: 'max' },
    ),
  )
  .map(([creations, others]) => [...creations, ...others]);

const modifySeries: Of<'modifySeries'> = fc.record({
  kind: fc.constant('modifySeries'),
  ns,
  meta: fc.nat(2),
  to: fc.option(fc.nat(2), { freq: 3 }),
});
const grouped: Of<'grouped'> = fc.record({
  kind: fc.constant('grouped'),
  ns,
  operations: fc.array(fc.record({ op: fc.constantFrom('i', 'u', 'd'), id, salt }), { minLength: 1, maxLength: 6 }),
  allowAtomic: fc.boolean(),
});
const heldIndex: Of<'heldIndex'> = fc.record({
  kind: fc.constant('heldIndex'),
  ns,
  index: fc.nat(INDEXES.length - 1),
  heldMs: fc.constantFrom(50, 500, 4_000),
});
const seriesMade: Of<'create'> = fc.record({
  kind: fc.constant('create'),
  ns,
  as: fc.constant('series'),
  salt: fc.constant(1),
});

const step: fc.Arbitrary<Step> = fc.record({
  pauseMs: fc.oneof({ weight: 4, arbitrary: fc.nat(20) }, { weight: 1, arbitrary: fc.nat(150) }),
  operation,
});

const disturbance: fc.Arbitrary<DisturbancePlan> = fc.oneof(
  { weight: 1, arbitrary: fc.constant({ cutWithinMs: null, twins: 0, killHeadWithinMs: null }) },
  { weight: 2, arbitrary: fc.constant({ cutWithinMs: 500, twins: 0, killHeadWithinMs: null }) },
  { weight: 2, arbitrary: fc.constant({ cutWithinMs: 500, twins: 0.4, killHeadWithinMs: null }) },
  { weight: 2, arbitrary: fc.constant({ cutWithinMs: 5_000, twins: 0, killHeadWithinMs: 3_000 }) },
);

const exclude = fc.constantFrom<readonly string[]>(
  ...([[], [], [], [], ['alpha.b'], ['alpha.c', 'beta.a'], ['*.d'], ['beta.*'], ['*.e', 'alpha.a']] as const),
);

/** A step more, of one client, somewhere between the others. */
interface Further {
  readonly client: number;
  readonly phase: keyof Client;
  /** 0 to 1 of that client's steps. */
  readonly at: number;
  readonly operation: Operation;
}

const further: fc.Arbitrary<readonly Further[]> = fc.oneof(
  { weight: 1, arbitrary: fc.constant([]) },
  {
    weight: 2,
    arbitrary: fc.array(
      fc.record({
        client: fc.nat(1_000),
        phase: fc.constantFrom('duringSync' as const, 'duringSync' as const, 'routine' as const),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        operation: fc.oneof(
          { weight: 3, arbitrary: modifySeries },
          { weight: 1, arbitrary: seriesMade },
          { weight: 4, arbitrary: grouped },
          { weight: 1, arbitrary: heldIndex },
        ),
      }),
      { minLength: 4, maxLength: 16, size: 'max' },
    ),
  },
);

function withFurther(workload: Workload, more: readonly Further[]): Workload {
  const clients = workload.clients.map(({ duringSync, routine }) => ({
    duringSync: [...duringSync],
    routine: [...routine],
  }));
  for (const { client, phase, at, operation: one } of more) {
    const steps = clients[client % clients.length]?.[phase];
    steps?.splice(Math.floor(at * steps.length), 0, { pauseMs: 0, operation: one });
  }
  return { ...workload, clients };
}

function workloads(seed: number, { clients, stepsEach }: Size): fc.Arbitrary<Workload> {
  const ofRoutine = Math.ceil(stepsEach / 3);
  const steps = (count: number): fc.Arbitrary<Step[]> =>
    fc.array(step, { minLength: count, maxLength: count, size: 'max' });
  const client: fc.Arbitrary<Client> = fc.record({
    duringSync: steps(stepsEach - ofRoutine),
    routine: steps(ofRoutine),
  });
  const stop: fc.Arbitrary<Stop> = fc.record({
    afterSteps: fc.nat(clients * ofRoutine - 1),
    restart: seldom,
    between: fc.double({ min: 0, max: 1, noNaN: true }),
    restore: fc.constantFrom(false, false, false, true),
  });
  const workload = fc.record({
    seed: fc.constant(seed),
    before,
    clients: fc.array(client, { minLength: clients, maxLength: clients }),
    syncAfterSteps: fc.nat(Math.floor((clients * stepsEach) / 4)),
    sliceBytes: fc.constantFrom(2_000, 20_000, 1_000_000),
    disturbance,
    stops: fc
      .uniqueArray(stop, { minLength: 1, maxLength: 3, selector: ({ afterSteps }) => afterSteps })
      .map((stops) => stops.toSorted((a, b) => a.afterSteps - b.afterSteps)),
    restoreAtEnd: seldom,
    exclude,
    // What was added later comes later, so that a seed still stands for what it stood for.
    more: further,
  });
  return workload.map(({ more, ...one }) => withFurther(one, more));
}

/** The workload of a seed. */
export function workloadOf(seed: number, size: Size = USUAL_SIZE): Workload {
  const [workload] = fc.sample(workloads(seed, size), { seed, numRuns: 1 });
  if (!workload) throw new Error('nothing was made');
  return workload;
}
