/** All checks of one deployment, on the machine of its daemon or, without a machine, from anywhere. */
import type { ReadPreferenceMode } from 'mongodb';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { CheckName } from '../shared/messages.ts';
import type { Source } from '../source/connect.ts';
import { checkDisk } from './disk.ts';
import { passed, refused, softened, unknown, type Finding } from './finding.ts';
import type { Fact } from './in-time.ts';
import { folderBytes, freeBytes, openFileLimit } from './machine-facts.ts';
import { checkMembers } from './members.ts';
import { checkMongod } from './mongod.ts';
import { checkOpenFiles } from './open-files.ts';
import { checkOplogWindow } from './oplog-window.ts';
import { checkPointInTime } from './point-in-time.ts';
import { gatherSource, type SourceFacts } from './source-facts.ts';

/** What the configuration asks for. */
export interface DeploymentWishes {
  readonly readFrom: ReadPreferenceMode;
  readonly minOplogWindowMs: number;
  readonly pointInTimeWindowMs: number;
  readonly allowUnverifiedVersion: boolean;
  readonly exclude: readonly string[];
}

/** The machine that holds the head, or will. */
export interface Machine {
  /** The daemon's data directory, which is there. */
  readonly dataDir: string;
  /** Where the heads of the deployment lie in it, whether or not there is one. */
  readonly heads: string;
  /** @throws LifeboatError `MongodMissing`, `UnsupportedVersion` */
  readonly mongodFor: (version: string) => Promise<string>;
}

export interface DeploymentChecks {
  readonly source: Source;
  readonly wishes: DeploymentWishes;
  /** Undefined when this is not the daemon's machine. */
  readonly machine: Machine | undefined;
  /** Its initial sync has begun: what only that needs to begin is a warning then. */
  readonly begun: boolean;
}

/** Checks that need the source, and those that need the machine as well. */
const OF_SOURCE: readonly CheckName[] = ['source', 'privileges', 'oplog-window'];
const OF_MACHINE: readonly CheckName[] = ['mongod', 'disk', 'open-files'];

/** What a source that is there lets a backup wait for or warn of, and not stop it. */
const SOFT_ONCE_BEGUN: ReadonlySet<CheckName> = new Set(['source', 'oplog-window', 'disk', 'open-files']);

/**
 * Looks at everything at once; each question has its time limit, so that this ends within about 20 s.
 * @throws the signal's reason when it is aborted
 */
export async function checkDeployment(
  { source, wishes, machine, begun }: DeploymentChecks,
  signal: AbortSignal,
): Promise<Finding[]> {
  const facts = await gatherSource(source, wishes.readFrom, wishes.exclude, signal);
  const findings = [
    from(facts.set, 'source', checkMembers),
    passed('privileges', 'the user may do what the roles backup and clusterMonitor allow'),
    from(facts.oplog, 'oplog-window', ({ host, extent }) => checkOplogWindow(host, extent, wishes.minOplogWindowMs)),
    ...(machine ? await checkMachine(source, wishes, machine, facts, begun) : []),
    checkPointInTime(wishes.pointInTimeWindowMs),
  ];
  return begun
    ? findings.map((finding) => (SOFT_ONCE_BEGUN.has(finding.name) ? softened(finding) : finding))
    : findings;
}

async function checkMachine(
  source: Source,
  { allowUnverifiedVersion }: DeploymentWishes,
  { dataDir, heads, mongodFor }: Machine,
  { sizes }: SourceFacts,
  begun: boolean,
): Promise<Finding[]> {
  const { version, featureCompatibilityVersion } = source.identity;
  const [free, head, limit, binary] = await Promise.all([
    told(freeBytes(dataDir), 'DiskTooSmall', `the disk of ${dataDir} cannot be looked at`),
    folderBytes(heads),
    told(openFileLimit(), 'OpenFilesTooFew', 'the limit of open files cannot be found out'),
    told(mongodFor(version), 'MongodMissing', 'no mongod was found'),
  ]);
  return [
    checkMongod({ version, featureCompatibilityVersion, binary, allowUnverified: allowUnverifiedVersion }),
    from(sizes, 'disk', ({ bytes }) =>
      from(free, 'disk', (freeNow) =>
        checkDisk({ path: dataDir, freeBytes: freeNow, headBytes: head, sourceBytes: bytes }, begun),
      ),
    ),
    from(sizes, 'open-files', ({ collections, indexes }) =>
      from(limit, 'open-files', (known) => checkOpenFiles({ limit: known, collections, indexes })),
    ),
  ];
}

/** What a source that could not be opened leaves to be told. */
export function withoutSource(error: LifeboatError, wishes: DeploymentWishes, machine: boolean): Finding[] {
  const name: CheckName = isLogin(error) ? 'privileges' : 'source';
  return [
    ...[...OF_SOURCE, ...(machine ? OF_MACHINE : [])].map((check) =>
      check === name
        ? refused(check, error)
        : unknown(check, `needs the ${name === 'source' ? 'source' : 'login'} first`),
    ),
    checkPointInTime(wishes.pointInTimeWindowMs),
  ];
}

/** What only the daemon's machine can tell, when it does not answer. @param why such as `no worker answers` */
export function withoutMachine(why: string): Finding[] {
  return OF_MACHINE.map((name) => unknown(name, why));
}

function isLogin(error: LifeboatError): boolean {
  return isLifeboatError(error, 'NotAuthorized') || isLifeboatError(error, 'AuthFailed');
}

/** The finding on a fact, or why there is no fact: only members that cannot be seen at all keep a backup from beginning. */
function from<T>(fact: Fact<T>, name: CheckName, check: (value: T) => Finding): Finding {
  if ('value' in fact) return check(fact.value);
  const { error } = fact;
  const stops = name === 'source' && error.kind !== 'TimedOut';
  return stops ? refused(name, error) : unknown(name, error.message, error);
}

async function told<T>(asking: Promise<T>, kind: ErrorName, message: string): Promise<Fact<T>> {
  try {
    return { value: await asking };
  } catch (error) {
    return { error: error instanceof LifeboatError ? error : new LifeboatError(kind, message, { cause: error }) };
  }
}
