/** Check `source`: the members of the set, what state each is in, and which is read from. */
import type { ReadPreferenceMode } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import { passed, refused, warned, type Finding } from './finding.ts';

export interface MemberState {
  readonly host: string;
  /** As `replSetGetStatus` calls it: `PRIMARY`, `SECONDARY`, `RECOVERING` and so on; `DOWN` for one that does not answer. */
  readonly state: string;
}

export interface SetState {
  readonly name: string;
  readonly setName: string;
  readonly version: string;
  readonly featureCompatibilityVersion: string;
  readonly members: readonly MemberState[];
  readonly readFrom: ReadPreferenceMode;
  /** The member that is read from now. */
  readonly readHost: string;
}

const HEALTHY = new Set(['PRIMARY', 'SECONDARY', 'ARBITER']);

export function checkMembers(set: SetState): Finding {
  const { name, members, readFrom, readHost } = set;
  if (!members.some(({ state }) => state === 'PRIMARY')) {
    return refused('source', new LifeboatError('SourceNotReady', `${name} has no primary (${listed(members)})`));
  }
  const ailing = members.filter(({ state }) => !HEALTHY.has(state));
  if (ailing.length > 0) return warned('source', ill(`${name}: ${listed(ailing)}; read from ${readHost}`));
  const data = members.filter(({ state }) => state !== 'ARBITER');
  const secondaries = data.filter(({ state }) => state === 'SECONDARY');
  const wantsSecondary = readFrom === 'secondary' || readFrom === 'secondaryPreferred';
  if (wantsSecondary && data.length > 1 && secondaries.length === 0) {
    return warned('source', ill(`${name} has no secondary to read from; its primary ${readHost} is read`));
  }
  return passed('source', `${described(set)}; read from ${readHost}`);
}

function described({ setName, version, featureCompatibilityVersion, members }: SetState): string {
  const count = members.length === 1 ? '1 member' : `${members.length} members`;
  return `replica set ${setName}, mongod ${version} (FCV ${featureCompatibilityVersion}), ${count}`;
}

function ill(message: string): LifeboatError {
  return new LifeboatError('MemberNotHealthy', message);
}

function listed(members: readonly MemberState[]): string {
  return members.map(({ host, state }) => `${host} is ${state}`).join(', ');
}
