/** What every step is given: how to stop, how to tell how far it is, where to log. Nothing here knows Temporal. */
import type { Logger } from 'pino';
import type { Progress } from '../shared/messages.ts';

/** What is counted of the steps, for those who draw curves of it. */
export type Counted =
  | 'documentBytesRead'
  | 'oplogBytesRead'
  | 'slicesStored'
  | 'entriesStored'
  | 'entriesApplied'
  | 'blocksNew'
  | 'blocksReused'
  | 'blockBytesStored';

export interface StepContext {
  /** Aborted when the step is to end early; the step then settles soon, with everything it acknowledged durable. */
  readonly signal: AbortSignal;
  /** Called often; the receiver thins it out. */
  report(progress: Progress): void;
  /** Counts what was done. A step whose counts nobody wants is given none. */
  readonly count?: (what: Counted, amount: number) => void;
  /** Never given a secret, a document or a server's error text. */
  readonly logger: Logger;
}
