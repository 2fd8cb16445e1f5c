/** The stages that progress is told of. */

/** Those of an initial sync, in the order in which they end. Copying and loading go on at the same time. */
const OF_INITIAL_SYNC = ['copy', 'load', 'catch-up', 'indexes', 'validate', 'snapshot'] as const;

/** Which step of an initial sync a stage is, from 1; undefined for a stage that is none. */
export function stepOfSync(stage: string): { readonly step: number; readonly of: number } | undefined {
  const at = (OF_INITIAL_SYNC as readonly string[]).indexOf(stage);
  return at < 0 ? undefined : { step: at + 1, of: OF_INITIAL_SYNC.length };
}
