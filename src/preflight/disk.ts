/** Check `disk`: room for the head on the daemon's disk. */
import { LifeboatError } from '../shared/errors.ts';
import { bytes as bytesText } from '../shared/phrases.ts';
import { passed, refused, warned, type Finding } from './finding.ts';

export interface DiskFacts {
  /** The daemon's data directory. */
  readonly path: string;
  readonly freeBytes: number;
  /** What the head of this member, or the one that it replaces, takes already. */
  readonly headBytes: number;
  /** Bytes of the files of the source, without its oplog. */
  readonly sourceBytes: number;
}

/** A head's journal, its own oplog-free system files, and room to write at all. */
const FIXED_BYTES = 512 * 2 ** 20;
/** Index builds and files that are written anew need room beside the data, for a while. */
const COMFORT = 1.5;
/** A head that is there grows with its source: less than this share of it is little. */
const LITTLE = 0.1;

/** @param begun an initial sync has begun: the head is there, in part or whole */
export function checkDisk({ path, freeBytes, headBytes, sourceBytes }: DiskFacts, begun: boolean): Finding {
  const room = freeBytes + headBytes;
  const need = sourceBytes + FIXED_BYTES;
  const told = `${path} has ${bytesText(freeBytes)} free${headBytes > 0 ? ` beside ${bytesText(headBytes)} of the head` : ''}; the source takes ${bytesText(sourceBytes)}`;
  const short = (): LifeboatError => new LifeboatError('DiskTooSmall', told);
  if (room < need) return refused('disk', short());
  const tight = begun ? freeBytes < FIXED_BYTES + LITTLE * sourceBytes : room < COMFORT * need;
  return tight ? warned('disk', short()) : passed('disk', told);
}
