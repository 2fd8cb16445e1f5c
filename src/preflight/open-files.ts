/** Check `open-files`: mongod keeps a file open for each collection and one for each index. */
import { LifeboatError } from '../shared/errors.ts';
import { passed, refused, warned, type Finding } from './finding.ts';

export interface OpenFileFacts {
  /** Of the worker, whose mongods inherit it; null when there is none. */
  readonly limit: number | null;
  readonly collections: number;
  /** One at least to each collection. */
  readonly indexes: number;
}

/** Connections, journal, log and the server's own files. */
const MARGIN = 500;
/** Collections come, and new files are open beside the old ones while indexes are built. */
const COMFORT = 2;

export function checkOpenFiles({ limit, collections, indexes }: OpenFileFacts): Finding {
  const need = collections + indexes + MARGIN;
  const told = `a head of ${collections} collections and ${indexes} indexes opens up to ${need} files; the limit is ${limit ?? 'none'}`;
  if (limit === null || limit >= COMFORT * need) return passed('open-files', told);
  const few = new LifeboatError('OpenFilesTooFew', told);
  return limit < need ? refused('open-files', few) : warned('open-files', few);
}
