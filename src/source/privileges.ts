/** What the user of a source may do: each of the two roles is found missing by its own name. */
import { MongoServerError, ReadPreference, type Document, type MongoClient } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';

export const ROLES = ['backup', 'clusterMonitor'] as const;
export type Role = (typeof ROLES)[number];

interface Probe {
  readonly role: Role;
  readonly db: string;
  readonly command: Document;
}

const one = { limit: 1, singleBatch: true, projection: { _id: 1 } };

/**
 * Things that Lifeboat does and that one of the two roles alone allows (tried on 6.0.5). A user with a role made by hand
 * passes as well: what counts is what it may do.
 */
const PROBES: readonly Probe[] = [
  { role: 'backup', db: 'admin', command: { find: 'system.users', ...one } },
  // A collection that need not be there: the answer is the same.
  { role: 'backup', db: 'lifeboat-privileges', command: { find: 'none', ...one } },
  { role: 'backup', db: 'lifeboat-privileges', command: { listCollections: 1, nameOnly: true } },
  { role: 'clusterMonitor', db: 'admin', command: { replSetGetConfig: 1 } },
  { role: 'clusterMonitor', db: 'admin', command: { replSetGetStatus: 1 } },
  { role: 'clusterMonitor', db: 'admin', command: { getCmdLineOpts: 1 } },
];

const UNAUTHORIZED = 13;
/** Commands go to the primary alone unless told: a set without one can still be looked at. */
const ANY_MEMBER = { readPreference: ReadPreference.primaryPreferred };

async function isRefused(client: MongoClient, { db, command }: Probe): Promise<boolean> {
  try {
    await client.db(db).command(command, ANY_MEMBER);
    return false;
  } catch (error) {
    if (error instanceof MongoServerError && error.code === UNAUTHORIZED) return true;
    throw error;
  }
}

/** The roles that the user lacks, in the order of `ROLES`. @throws the driver's errors */
export async function missingRoles(client: MongoClient): Promise<readonly Role[]> {
  const refused = await Promise.all(PROBES.map((probe) => isRefused(client, probe)));
  return ROLES.filter((role) => PROBES.some((probe, n) => probe.role === role && refused[n] === true));
}

/**
 * Finds a missing role before hours of copying.
 * @param name the deployment's, for the message
 * @throws LifeboatError `NotAuthorized`, which names what is missing; the driver's errors
 */
export async function requireRoles(name: string, client: MongoClient): Promise<void> {
  const missing = await missingRoles(client);
  if (missing.length === 0) return;
  const roles = missing.map((role) => `"${role}"`).join(' and ');
  throw new LifeboatError(
    'NotAuthorized',
    `the user of ${name} lacks the role${missing.length === 1 ? '' : 's'} ${roles} on the database admin`,
  );
}
