/** Check `mongod`: a binary of the source's major version for the head, and a version that the tests run. */
import { LifeboatError } from '../shared/errors.ts';
import { majorVersion } from '../mongod/binary.ts';
import type { Fact } from './in-time.ts';
import { passed, refused, warned, type Finding } from './finding.ts';

/** Whole lifecycles are run on these by the tests. */
export const VERIFIED_VERSIONS: readonly string[] = ['4.4', '5.0', '6.0'];

export interface MongodFacts {
  /** `x.y.z` of the source, and its `x.y` of feature compatibility. */
  readonly version: string;
  readonly featureCompatibilityVersion: string;
  /** Path of the binary for the head, or why there is none. */
  readonly binary: Fact<string>;
  /** `allowUnverifiedVersion` of the deployment. */
  readonly allowUnverified: boolean;
}

export function checkMongod({ version, featureCompatibilityVersion, binary, allowUnverified }: MongodFacts): Finding {
  const verified = VERIFIED_VERSIONS.includes(majorVersion(version));
  const unverified = new LifeboatError(
    'VersionUnverified',
    `the source runs mongod ${version}; tests run ${VERIFIED_VERSIONS.join(', ')}`,
  );
  if (!verified && !allowUnverified) return refused('mongod', unverified);
  if ('error' in binary) return refused('mongod', binary.error);
  if (!verified) return warned('mongod', unverified);
  return passed('mongod', `${binary.value} for the head of ${version} (FCV ${featureCompatibilityVersion})`);
}
