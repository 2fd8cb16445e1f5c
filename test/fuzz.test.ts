/** A few of the workloads of `npm run fuzz`: seeds that once found something, and one of each version. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findBinary } from '../src/embedded/binaries.ts';
import { startBed, type Bed } from './fuzz/bed.ts';
import { workloadOf } from './fuzz/generate.ts';
import { DATABASES, type Operation, type Workload } from './fuzz/operations.ts';
import { lineOf } from './fuzz/report.ts';
import { runWorkload, type Meddling, type RunResult } from './fuzz/run.ts';
import { shrink } from './fuzz/shrink.ts';
import type { DataPath } from './support/data-path.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';

/**
 * 14: views of a database that is dropped; 20: documents older than their validator; 22, 417: prepared transactions. The
 * others leave something out, and rename it into and out of the backup while heads are killed or steps have twins; 506: an
 * entry puts off where an initial sync ends.
 */
const KNOWN = [14, 20, 22, 417, 506, 518, 531, 539];

const OF_VERSIONS = { '4.4': 101, '5.0': 2_064_915_186, '6.0.27': 786_443_318 } as const;

let bed: Bed;
before(async () => {
  bed = await startBed(await findBinary('mongod'));
});
after(async () => {
  await bed?.[Symbol.asyncDispose]();
});

/** Servers that a run has left busy are no use to the next one. */
async function tried(workload: Workload, meddling?: Meddling): Promise<RunResult> {
  const result = await runWorkload(bed, workload, meddling);
  if (result.hung) {
    await bed[Symbol.asyncDispose]();
    bed = await startBed(await findBinary('mongod'));
  }
  return result;
}

function operationsOf({ before: first, clients }: Workload): Operation[] {
  const steps = clients.flatMap(({ duringSync, routine }) => [...duringSync, ...routine]);
  return [...first, ...steps.map(({ operation }) => operation)];
}

test('a seed gives the same workload again, and few seeds every kind of operation', () => {
  assert.deepEqual(workloadOf(1), workloadOf(1));
  assert.notDeepEqual(workloadOf(1), workloadOf(2));
  const kinds = new Set(
    Array.from({ length: 20 }, (_, seed) => operationsOf(workloadOf(seed + 1)).map(({ kind }) => kind)).flat(),
  );
  assert.equal(kinds.size, 25, [...kinds].join(' '));
});

test('a workload that fails is made as small as what it fails for', async () => {
  const isRename = ({ kind }: Operation): boolean => kind === 'rename';
  const workload = workloadOf(1);
  assert.ok(operationsOf(workload).length > 200 && operationsOf(workload).some(isRename));
  const smaller = await shrink(workload, 60_000, (candidate) =>
    Promise.resolve(operationsOf(candidate).some(isRename)),
  );
  assert.deepEqual([operationsOf(smaller).map(({ kind }) => kind), smaller.stops], [['rename'], []]);
});

for (const seed of KNOWN) {
  test(`head, restores and source are equal under the workload of seed ${seed}`, async (t) => {
    const result = await tried(workloadOf(seed));
    t.diagnostic(lineOf(result));
    assert.deepEqual(result.findings, []);
    assert.ok(result.comparisons > 1 && result.entries > 100);
  });
}

for (const version of OTHER_VERSIONS) {
  const found = await mongodOf(version);
  test(
    `head, restores and source are equal under a workload on a mongod ${version}`,
    { skip: 'missing' in found && found.missing },
    async (t) => {
      assert.ok('path' in found);
      await using other = await startBed(found.path);
      const result = await runWorkload(other, workloadOf(OF_VERSIONS[version]));
      t.diagnostic(lineOf(result));
      assert.deepEqual(result.findings, []);
    },
  );
}

test('a document that is another one on the head is found', async () => {
  const spoil = async (path: DataPath): Promise<void> => {
    await using head = await path.connectHead();
    for (const db of DATABASES) {
      for (const { name } of await head
        .db(db)
        .listCollections({ type: 'collection', 'options.capped': null })
        .toArray()) {
        if (name.startsWith('system.')) continue;
        const { modifiedCount } = await head
          .db(db)
          .collection(name)
          .updateOne({}, { $set: { spoiled: true } }, { bypassDocumentValidation: true });
        if (modifiedCount === 1) return;
      }
    }
    assert.fail('there was no document to spoil');
  };
  const { findings } = await tried(workloadOf(KNOWN[0] ?? 1), { spoil });
  assert.equal(findings.length, 1, findings.join(' '));
  assert.match(findings[0] ?? '', /differs: .*"kind":"different","count":1/);
});
