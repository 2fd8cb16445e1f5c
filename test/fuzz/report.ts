/** What a person is told of runs. */
import type { RunResult } from './run.ts';

/** One line for one run. */
export function lineOf(result: RunResult): string {
  const {
    seed,
    version,
    findings,
    refusal,
    tallies,
    entries,
    comparisons,
    compared,
    leftOut,
    restores,
    moments,
    verified,
    restarts,
    disturbed,
    ms,
  } = result;
  const all = [...tallies.values()];
  const done = all.reduce((sum, tally) => sum + tally.done, 0);
  const refused = all.flatMap((tally) => [...tally.refused.values()]).reduce((sum, count) => sum + count, 0);
  const { cut, twins, kills } = disturbed;
  return [
    `${findings.length > 0 ? 'UNEQUAL' : refusal === null ? 'equal  ' : 'refused'} seed ${seed}, mongod ${version}: ${done} operations done, ${refused} refused`,
    `${entries} entries, ${comparisons} comparisons of ${compared} collections (${leftOut} left out), ${restores} restores (${moments} to a moment, ${verified} snapshots compared)`,
    `${cut} steps cut, ${twins} twins, ${kills} kills, ${restarts} restarts, ${(ms / 1000).toFixed(1)} s`,
    ...(refusal === null ? [] : [refusal]),
  ].join('; ');
}

/** A result as data that JSON can hold. */
export function dataOf({ tallies, ...result }: RunResult): object {
  const operations = [...tallies].map(([kind, { done, refused }]) => [
    kind,
    { done, refused: Object.fromEntries(refused) },
  ]);
  return { ...result, operations: Object.fromEntries(operations) as object };
}

/** What a finding is about, whatever its numbers, names and places: by it a smaller workload fails for the same reason. */
export function kindsOf({ findings }: RunResult): Set<string> {
  return new Set(
    findings.map((text) =>
      (text.split('\n')[0] ?? '')
        .replaceAll(/\{.*?"kind":"([^"]+)".*/g, '$1')
        .replaceAll(/\b(alpha|beta)\.[\w.]+/g, 'NAMESPACE')
        .replaceAll(/[0-9a-f]{6,}|\d+/g, '#')
        .slice(0, 120),
    ),
  );
}

/** How many there were, how many are unequal, and what the workloads were made of. */
export function summaryOf(results: readonly RunResult[]): string {
  const kinds = new Map<string, { readonly done: number; readonly refused: number }>();
  for (const { tallies } of results) {
    for (const [kind, { done, refused }] of tallies) {
      const known = kinds.get(kind) ?? { done: 0, refused: 0 };
      const more = [...refused.values()].reduce((sum, count) => sum + count, 0);
      kinds.set(kind, { done: known.done + done, refused: known.refused + more });
    }
  }
  const unequal = results
    .filter(({ findings }) => findings.length > 0)
    .map(({ seed, version }) => `${seed} (${version})`);
  const refused = results.filter(({ refusal }) => refusal !== null).length;
  const sum = (of: (result: RunResult) => number): number => results.reduce((total, one) => total + of(one), 0);
  return [
    `${results.length} runs of ${new Set(results.map(({ seed }) => seed)).size} seeds, ${unequal.length} unequal${unequal.length > 0 ? `: ${unequal.join(', ')}` : ''}${refused > 0 ? `, ${refused} refused` : ''}`,
    `${sum(({ comparisons }) => comparisons)} comparisons, ${sum(({ restores }) => restores)} restores (${sum(({ moments }) => moments)} to a moment), ${sum(({ entries }) => entries)} entries`,
    `operations done, and refused: ${[...kinds].map(([kind, { done, refused }]) => `${kind} ${done}/${refused}`).join(', ')}`,
  ].join('\n');
}
