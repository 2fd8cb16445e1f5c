/** Which Temporal is meant: the embedded one of a home, or the one that the environment names. */
import { loadClientConfigProfile, toClientOptions, type ClientConnectConfig } from '@temporalio/envconfig';
import { LifeboatError } from '../shared/errors.ts';

/** A Temporal to talk to, and why this one. */
export interface TemporalTarget {
  readonly address: string;
  readonly namespace: string;
  readonly connectionOptions: ClientConnectConfig['connectionOptions'];
  /** For people, such as `the running \`up\` of .lifeboat`. */
  readonly why: string;
}

export interface TemporalChoice {
  readonly home: string;
  /** Whether the home was named, and not just the default one. */
  readonly homeGiven: boolean;
  /** What `up` of that home runs, if it runs. */
  readonly up: { readonly address: string; readonly namespace: string } | undefined;
  readonly env: NodeJS.ProcessEnv;
}

/** Any of these says which Temporal is meant. */
const NAMING_VARIABLES = ['TEMPORAL_ADDRESS', 'TEMPORAL_PROFILE', 'TEMPORAL_CONFIG_FILE'] as const;
const DEFAULT_ADDRESS = 'localhost:7233';
const DEFAULT_NAMESPACE = 'default';

/**
 * Chooses by the rule of the command line: a running `up` of the home when the home is named or nothing else is
 * configured, else what the standard variables and profiles say.
 * @throws LifeboatError `TemporalUnavailable` when the home is named and nothing runs there; `ConfigInvalid` when the
 *   variables or the profile cannot be read
 */
export function chooseTemporal({ home, homeGiven, up, env }: TemporalChoice): TemporalTarget {
  if (homeGiven && !up) throw new LifeboatError('TemporalUnavailable', `no \`lifeboat up\` runs in ${home}`);
  const profile = homeGiven ? undefined : readProfile(env);
  const named = NAMING_VARIABLES.find((name) => (env[name] ?? '') !== '');
  if (up && (homeGiven || (named === undefined && profile?.address === undefined))) {
    return { ...up, connectionOptions: { address: up.address }, why: `the running \`up\` of ${home}` };
  }
  const { connectionOptions, namespace } = toClientOptions(profile ?? {});
  const address = connectionOptions.address ?? DEFAULT_ADDRESS;
  return {
    address,
    namespace: namespace ?? DEFAULT_NAMESPACE,
    connectionOptions: { ...connectionOptions, address },
    why: whyEnvironment(named, profile?.address !== undefined, home),
  };
}

function whyEnvironment(named: string | undefined, profile: boolean, home: string): string {
  if (named !== undefined) return `by ${named}`;
  return profile
    ? 'by the profile in temporal.toml'
    : `the default: no \`up\` runs in ${home}, and no TEMPORAL_ADDRESS is set`;
}

function readProfile(env: NodeJS.ProcessEnv): ReturnType<typeof loadClientConfigProfile> {
  const variables = Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
  try {
    return loadClientConfigProfile({ overrideEnvVars: variables });
  } catch (error) {
    // The text may quote the file, and that may hold a key.
    throw new LifeboatError(
      'ConfigInvalid',
      'the Temporal profile of the environment cannot be read: see TEMPORAL_PROFILE, and that temporal.toml has a table [profile.default]',
      {
        cause: error,
      },
    );
  }
}
