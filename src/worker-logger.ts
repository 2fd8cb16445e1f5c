/** What the Temporal SDK logs, in the worker's own log. */
import type { LogLevel, LogMetadata, Logger as TemporalLogger } from '@temporalio/worker';
import type { Logger } from 'pino';

const levels = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const satisfies Record<
  LogLevel,
  string
>;

/** What a failure's own code, and nothing else, is logged of an error: the edge of the activities logged the rest. */
function withoutTexts(meta: LogMetadata = {}): Record<string, unknown> {
  const { error, ...rest } = meta;
  if (error === undefined) return rest;
  return {
    ...rest,
    error: error instanceof Error && 'type' in error ? error.type : (error as { name?: unknown } | null)?.name,
  };
}

export function temporalLogger(logger: Logger): TemporalLogger {
  const log = (level: LogLevel, message: string, meta?: LogMetadata): void => {
    logger[levels[level]](withoutTexts(meta), message);
  };
  return {
    log,
    trace: (message, meta) => log('TRACE', message, meta),
    debug: (message, meta) => log('DEBUG', message, meta),
    info: (message, meta) => log('INFO', message, meta),
    warn: (message, meta) => log('WARN', message, meta),
    error: (message, meta) => log('ERROR', message, meta),
  };
}
