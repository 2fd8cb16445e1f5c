import { findBinary } from '../../src/embedded/binaries.ts';
import { startBed } from './bed.ts';
import { workloadOf } from './generate.ts';
import { runWorkload } from './run.ts';
await using bed = await startBed(process.env['M'] ?? (await findBinary('mongod')));
const from = Number(process.argv[2] ?? 1);
for (let seed = from; seed < from + Number(process.argv[3] ?? 1); seed += 1) {
  const r = await runWorkload(bed, workloadOf(seed));
  console.log(seed, r.ms, 'entries', r.entries, r.version, 'cmp', r.comparisons, 'restores', r.restores, r.disturbed, r.findings);
  if (process.env['V']) for (const [k, t] of r.tallies) console.log('  ', k, t.done, [...t.refused].map(([w, n]) => `${w}:${n}`).join(' '));
}
