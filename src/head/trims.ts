/**
 * Who takes out of a head's capped collections what they have no more room for.
 *
 * From the feature compatibility version 5.0 on the source logs each document that such a collection loses, and its
 * secondaries take out nothing else (collection_impl.cpp, `isEnforcingConstraints`). What came into it first is no matter
 * of entries: an insert has its optime before its place (write_ops_exec.cpp, insertDocuments), so that with several clients
 * the source's oldest document need not be the oldest by entries, and clients may delete from it. A head that took out its own
 * oldest would lose one that its source keeps; and so it would while it holds documents of the future. Only with the server's
 * fail point does a standalone leave that to the entries, as a secondary does; it is there since 5.0.0.
 */
import { LifeboatError } from '../shared/errors.ts';
import type { FeatureVersion } from './feature-version.ts';
import { refuseTrouble } from './replies.ts';
import { replyValues, succeeded, type HeadSocket, type Reply } from './socket.ts';

/** Parameters of a mongod whose fail points can be set. Its checks for the server's own tests stay off. */
export const WITH_FAIL_POINTS = { enableTestCommands: true, testingDiagnosticsEnabled: false } as const;

/** The feature compatibility version of a head. */
async function readFeatureVersion(socket: HeadSocket): Promise<FeatureVersion> {
  const reply = await socket.command('admin', { getParameter: 1, featureCompatibilityVersion: 1 });
  const found = replyValues(succeeded(reply, 'asking for its feature compatibility version'));
  return found['featureCompatibilityVersion'] as FeatureVersion;
}

/** Whether the entries of such a source tell what its capped collections lose. */
export function tellsTrims(featureVersion: string): boolean {
  return Number.parseInt(featureVersion, 10) >= 5;
}

async function setSkipping(socket: HeadSocket, mode: 'alwaysOn' | 'off'): Promise<Reply> {
  return socket.command('admin', { configureFailPoint: 'skipCappedDeletes', mode });
}

/**
 * Lets the head itself take out what finds no room, until `leaveTrimsToEntries` is called again. To be called of a head that
 * leaves it to the entries only.
 * @throws LifeboatError `HeadLost`, `HeadStrained` (retryable)
 */
export async function letTrim(socket: HeadSocket): Promise<void> {
  succeeded(await setSkipping(socket, 'off'), 'letting it trim its capped collections');
}

/**
 * Leaves to the entries what capped collections lose, if they tell it.
 * @returns the feature compatibility version of the head
 * @throws LifeboatError `HeadLost`, `HeadStrained` (retryable); `UnsupportedVersion` when its mongod has no such fail point
 */
export async function leaveTrimsToEntries(socket: HeadSocket): Promise<FeatureVersion> {
  const features = await readFeatureVersion(socket);
  const told = tellsTrims(features.version);
  const reply = await setSkipping(socket, told ? 'alwaysOn' : 'off');
  // A 4.4 has none: what there is not is not on.
  if (reply.ok || !told) return features;
  refuseTrouble(reply, 'leaving capped collections to the entries');
  const message = `the mongod of the head cannot leave capped collections as they are: ${reply.code} ${reply.codeName}`;
  throw new LifeboatError('UnsupportedVersion', message);
}
