/**
 * Changes of the feature compatibility version of a source. They are entries like others, and applied to a head they
 * would change its version; but what a server changes of its own files on the way is in no entry, and what it writes
 * afterwards is for a head that was made under that version. So they end what was begun under the other one.
 */
import { BsonType, findElement, stringValue } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { formatOptime } from '../shared/optime.ts';
import type { OplogEntry } from './entry.ts';

/** As the parameter of that name tells it. */
export interface FeatureVersion {
  /** `x.y` */
  readonly version: string;
  /** There while it goes from one version to another, also after a mongod that died on the way. */
  readonly targetVersion?: string;
}

const FEATURE_VERSION = 'featureCompatibilityVersion';

/**
 * Looks at an operation on `admin.system.version`. A set inserts its version once, when it is made, and that is none.
 * @param at the entry that stands in the oplog
 * @throws LifeboatError `FeatureVersionChanged`
 */
export function refuseFeatureVersion({ op, buffer, oStart, o2Start, o2End }: OplogEntry, at: OplogEntry): void {
  if (op === 'i') return;
  const id = findElement(buffer, '_id', o2End > 0 ? o2Start : oStart);
  if (id?.type !== BsonType.string || stringValue(buffer, id) !== FEATURE_VERSION) return;
  const where = formatOptime({ t: at.tsT, i: at.tsI });
  throw new LifeboatError('FeatureVersionChanged', `the source changed its ${FEATURE_VERSION} at ${where}`);
}
