/** How long one activity goes on before it returns, so that histories stay short and restarts cost little. */

/** In milliseconds. */
export interface SliceTimes {
  readonly follow: number;
  readonly load: number;
}

const MINUTE = 60_000;

/**
 * Following and applying for five minutes make about 150 events an hour for each deployment, and showing
 * how it goes (workflows/observing.ts) some 120; a history is handed over
 * at 4,096. `LIFEBOAT_SLICE_MS` sets both, for tests.
 */
export function slicesFrom(env: NodeJS.ProcessEnv): SliceTimes {
  const forced = Number(env['LIFEBOAT_SLICE_MS']);
  if (Number.isInteger(forced) && forced > 0) return { follow: forced, load: forced };
  return { follow: 5 * MINUTE, load: 10 * MINUTE };
}
