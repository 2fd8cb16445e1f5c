/** What `lifeboat.yaml` may say, what each key means, and what holds where it says nothing. */
import { z } from 'zod';
import type { Keep } from '../retention/plan.ts';
import { DEPLOYMENT_NAME, EXCLUDE_PATTERN } from '../shared/names.ts';
import type { SecretCommand } from './secret-command.ts';
import { nearest } from './suggest.ts';
import { parseDuration, parseSize, type Quantity } from './units.ts';

/**
 * Where a URI comes from. It is resolved where it is used: `${VARIABLE}` in the text, a file that holds it, or a program
 * that prints it.
 */
export type UriSource =
  { readonly uri: string } | { readonly uriFile: string } | { readonly uriCommand: SecretCommand };

export const READ_FROM = ['primary', 'primaryPreferred', 'secondary', 'secondaryPreferred', 'nearest'] as const;
export type ReadFrom = (typeof READ_FROM)[number];

export interface DeploymentConfig {
  readonly source: UriSource;
  /** Which members of the source are read. */
  readonly readFrom: ReadFrom;
  /** How long entries are kept after they were applied, in milliseconds; 0 keeps none. */
  readonly pointInTimeWindowMs: number;
  /** Which snapshots are kept; null keeps all. */
  readonly keep: Keep | null;
  /** How far back the oplog of the source is to reach at least, in milliseconds; 0 asks for nothing. */
  readonly minOplogWindowMs: number;
  /** Whether a source of a version that the tests do not run is backed up all the same. */
  readonly allowUnverifiedVersion: boolean;
  /** How many snapshots are to compare all of the head with the source, a part with each. */
  readonly verifyWithin: number;
  /** Patterns of what is left out (src/source/filter.ts). */
  readonly exclude: readonly string[];
}

export interface Config {
  /** Absolute path of the file, whether or not it is there. */
  readonly file: string;
  readonly daemon: {
    /** Null: a new daemon makes one up and keeps it in its `dataDir`. */
    readonly id: string | null;
    /** Absolute; null: a folder of `--home`. */
    readonly dataDir: string | null;
    /** Cache of each head's mongod, in bytes. */
    readonly headCacheBytes: number;
    /** Absolute path of the mongod to use, by major version such as `6.0`. */
    readonly mongod: ReadonlyMap<string, string>;
    /** How long another daemon must have been silent before this one takes over its backups, in ms; Infinity: never. */
    readonly takeoverAfterMs: number;
    /** `host:port` at which the worker shows its figures to Prometheus; null: nowhere. Read when the worker starts. */
    readonly metricsListen: string | null;
  };
  /** Null: the embedded blockstore of `--home`. */
  readonly blockstore: UriSource | null;
  /** Null: on the blockstore's replica set. */
  readonly syncStore: UriSource | null;
  readonly oplogStore: UriSource | null;
  readonly limits: {
    /** Collections of one source that are copied at a time. */
    readonly slicesInFlight: number;
    /** How fast the documents of one source are read, in bytes a second; null is no limit. */
    readonly sourceReadBytesPerSecond: number | null;
    /** How fast, and for how long with each snapshot, a part of a head is compared with its source. */
    readonly verifyReadBytesPerSecond: number;
    readonly verifyForMs: number;
  };
  readonly deployments: ReadonlyMap<string, DeploymentConfig>;
}

const defaults = {
  headCacheBytes: 2 ** 30,
  slicesInFlight: 4,
  verifyReadMiBps: 50,
  verifyForMs: 60_000,
  // A week of snapshots every six hours.
  verifyWithin: 28,
  readFrom: 'secondaryPreferred',
  pointInTimeWindowMs: 24 * 3_600_000,
  // Longer than a machine takes to be restarted or upgraded, and well within the oplog window of any source.
  takeoverAfterMs: 30 * 60_000,
  minOplogWindowMs: 3 * 3_600_000,
} as const satisfies Record<string, number | ReadFrom>;

/** mongod refuses a smaller cache. */
const MIN_HEAD_CACHE_BYTES = 2 ** 28;
const MAX_SLICES_IN_FLIGHT = 64;
/** A daemon tells of itself every ten seconds. */
const MIN_TAKEOVER_MS = 30_000;
/** Slower than this, an initial sync would never catch up with anything. */
const MIN_READ_MIBPS = 0.1;
const MAX_READ_MIBPS = 100_000;
const RATE_ERROR = `must be a number of MiB a second from ${MIN_READ_MIBPS} to ${MAX_READ_MIBPS}, without a unit`;
const MIB = 2 ** 20;
/** A source is only sure to tell of its past for so long. */
const MAX_VERIFY_MS = 100_000;
const MAX_VERIFY_WITHIN = 10_000;
const MAX_TIER = 10_000;
const DAEMON_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const MAJOR_VERSION = /^\d+\.\d+$/;
/** Port 0, any free one, would be of use to nobody who is to find it. */
const HOST_AND_PORT =
  /^(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])$/;
const CONNECTION_STRING = /^mongodb(\+srv)?:\/\/./;

/** What a text of a problem says of a key that nobody knows. */
function unknownKey(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  return meant === undefined
    ? `is no known key; there are ${known.join(', ')}`
    : `is no known key; did you mean "${meant}"?`;
}

/** A map of known keys. An issue about several unknown keys has one line for each of them. */
function section<T extends z.core.$ZodLooseShape>(shape: T): z.ZodObject<T, z.core.$strict> {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => unknownKey(key, known)).join('\n')
        : `must be a map of ${known.join(', ')}`,
  });
}

/** A section that may stand empty, as one does whose keys are all commented out. */
function optionalSection<T extends z.ZodObject>(schema: T, meaning: string): z.ZodOptional<z.ZodNullable<T>> {
  return key(schema.nullable(), meaning);
}

/** What the reference of the configuration says of a key; `npm run docs` reads it from here. */
export interface KeyMeta {
  /** The kind of value, on the schema of the value. */
  readonly type?: string;
  /** What the key means. */
  readonly meaning?: string;
  /** What holds where the key is not there, as one would write it. */
  readonly fallback?: string;
}

function typed<T extends z.ZodType>(schema: T, type: string): T {
  return schema.meta({ type } satisfies KeyMeta);
}

/** A key that may be left out. */
function key<T extends z.ZodType>(schema: T, meaning: string, fallback?: string): z.ZodOptional<T> {
  const meta: KeyMeta = fallback === undefined ? { meaning } : { meaning, fallback };
  return schema.optional().meta({ ...meta });
}

/** Marks the issue of a key that is part of the format and not built. */
export const NOT_BUILT_YET = 'is not built yet';

const notBuiltYet = key(
  typed(
    z.custom<never>(() => false, { error: NOT_BUILT_YET }),
    NOT_BUILT_YET,
  ),
  'Refused.',
);

const text = (expected: string): z.ZodString =>
  z.string({ error: `must be ${expected}` }).min(1, `must be ${expected}`);

const quantity = (
  read: (text: string) => Quantity,
  expected: string,
): z.ZodPipe<z.ZodUnknown, z.ZodTransform<number>> =>
  z.unknown().transform((value, context) => {
    const written = typeof value === 'number' ? String(value) : value;
    const result: Quantity = typeof written === 'string' ? read(written) : { wrong: `must be ${expected}` };
    if ('value' in result) return result.value;
    context.issues.push({ code: 'custom', input: value, message: result.wrong });
    return z.NEVER;
  });

const duration = typed(quantity(parseDuration, 'a duration such as 24h'), 'duration, such as `24h`');
const size = typed(quantity(parseSize, 'a size such as 1GiB'), 'size, such as `1GiB`');

const takeoverAfter = typed(
  quantity(
    (written) => (written === 'never' ? { value: Infinity } : parseDuration(written)),
    'a duration such as 30m, or never',
  ),
  'duration of at least `30s`, or `never`',
).refine((ms) => ms >= MIN_TAKEOVER_MS, 'must be at least 30s: a daemon tells of itself every ten');

const connectionString = typed(text('a MongoDB connection string, or "${VARIABLE}"'), 'connection string').refine(
  (uri) => uri.includes('${') || CONNECTION_STRING.test(uri),
  'must begin with mongodb:// or mongodb+srv://, or be "${VARIABLE}"',
);

const path = typed(text('a path'), 'path').refine(
  (value) => !value.includes('${'),
  'must be a plain path: variables stand only in a uri',
);

const COMMAND_ERROR =
  'must be a list of a program and its arguments, such as [vault, kv, get, -field=uri, secret/shop]';

const command = typed(
  z.array(
    text('a text').refine((word) => !word.includes('${'), 'must be a plain text: variables stand only in a uri'),
    { error: COMMAND_ERROR },
  ),
  'list of texts',
)
  .min(1, COMMAND_ERROR)
  .transform(([program = '', ...args]): SecretCommand => [program, ...args]);

const uriSource = {
  uri: key(
    connectionString,
    'What to connect to. `${VARIABLE}` in it stands for a variable of the environment of the worker.',
  ),
  uriFile: key(path, 'Instead of `uri`: a file on the machine of the worker that holds it.'),
  uriCommand: key(
    command,
    'Instead of `uri`: a program, with its arguments, that the worker runs without a shell and that prints it within 10 seconds.',
  ),
};

const store = section(uriSource).superRefine(exactlyOneSource);
const listenAddress = typed(text('host:port, such as "127.0.0.1:9464"'), '`host:port`').regex(
  HOST_AND_PORT,
  'must be host:port, such as "127.0.0.1:9464"',
);

const wholeNumber = (max: number): z.ZodNumber => {
  const error = `must be a whole number from 1 to ${max}`;
  return typed(z.int({ error }), `whole number from 1 to ${max}`).min(1, error).max(max, error);
};

const TIER_ERROR = `must be a whole number from 0 to ${MAX_TIER}`;
const NO_TIER = 'must keep something: name at least one tier with a number above 0';
const tier = typed(z.int({ error: TIER_ERROR }), `whole number from 0 to ${MAX_TIER}`)
  .min(0, TIER_ERROR)
  .max(MAX_TIER, TIER_ERROR);

const rate = typed(z.number({ error: RATE_ERROR }), 'number of MiB a second, without a unit')
  .min(MIN_READ_MIBPS, RATE_ERROR)
  .max(MAX_READ_MIBPS, RATE_ERROR);

const EXCLUDE_ERROR =
  'must be DATABASE.COLLECTION, with "*" for any run of characters, such as "logs.*"; admin, config and local belong to every backup, and a time-series collection is named as it is, without system.buckets';
const MOST_PATTERNS = 100;

const deployment = section({
  ...uriSource,
  readFrom: key(
    typed(
      z.enum(READ_FROM, { error: `must be one of ${READ_FROM.join(', ')}` }),
      READ_FROM.map((name) => `\`${name}\``).join(', '),
    ),
    'Which members of the source are read.',
    defaults.readFrom,
  ),
  minOplogWindow: key(
    duration,
    'How far back the oplog of the source is to reach. With less a backup does not begin, and one that runs warns; `0` asks for nothing.',
    '3h',
  ),
  allowUnverifiedVersion: key(
    typed(z.boolean({ error: 'must be true or false' }), '`true` or `false`'),
    'Back up a `mongod` of a version that the tests do not run (they run 4.4, 5.0 and 6.0).',
    'false',
  ),
  snapshots: key(
    section({
      every: notBuiltYet,
      keep: key(
        section({
          latest: key(tier, 'The newest so many.'),
          daily: key(tier, 'The newest of each of the last so many days (UTC) that have one.'),
          weekly: key(tier, 'The newest of each of the last so many weeks, from Monday on.'),
          monthly: key(tier, 'The newest of each of the last so many months.'),
          yearly: key(tier, 'The newest of each of the last so many years.'),
        }).refine((tiers) => Object.values(tiers).some((count) => count !== undefined && count > 0), NO_TIER),
        'Which snapshots are kept; the others are deleted by `lifeboat retention apply NAME`. Without it all are. A held one, the last good one and those that `pointInTime.window` rests on stay whatever it says.',
      ),
    }),
    'Snapshots, and how long they are kept.',
  ),
  pointInTime: key(
    section({
      window: key(
        duration,
        'How long oplog entries are kept once they are applied. `0` keeps none; then a head that is lost can, as a rule, not be made again without a resync.',
        '24h',
      ),
    }),
    'Oplog entries that are kept.',
  ),
  verifyWithin: key(
    wholeNumber(MAX_VERIFY_WITHIN),
    'How many snapshots are to compare all documents of the head with the source, a part with each. `limits.verifyFor` and `limits.verifyReadMiBps` bound a part, so that all of a large deployment may take more.',
    String(defaults.verifyWithin),
  ),
  exclude: key(
    typed(
      z
        .array(z.string({ error: EXCLUDE_ERROR }).regex(EXCLUDE_PATTERN, EXCLUDE_ERROR), { error: EXCLUDE_ERROR })
        .max(MOST_PATTERNS, `must be at most ${MOST_PATTERNS} patterns`),
      'list of `DATABASE.COLLECTION`',
    ),
    'What is left out: collections, views and time-series collections, with `*` for any run of characters, such as `["logs.*", "shop.tmp_*"]`. A backup holds to the list of its initial sync; see docs/exclude.md.',
    '[]',
  ),
  members: notBuiltYet,
}).superRefine(exactlyOneSource);

interface WrittenSource {
  readonly uri?: string | undefined;
  readonly uriFile?: string | undefined;
  readonly uriCommand?: SecretCommand | undefined;
}

function exactlyOneSource(value: WrittenSource, context: z.RefinementCtx): void {
  const [first, second] = (['uri', 'uriFile', 'uriCommand'] as const).filter((key) => value[key] !== undefined);
  if (first === undefined) {
    context.addIssue({
      code: 'custom',
      message: 'needs a uri, a uriFile that holds it, or a uriCommand that prints it',
    });
  } else if (second !== undefined) {
    context.addIssue({ code: 'custom', message: `has a ${first} and a ${second}: keep one of them`, path: [second] });
  }
}

/** The file as it is written, with quantities read. */
export const fileSchema = section({
  daemon: optionalSection(
    section({
      id: key(
        typed(text('a name'), 'name').regex(
          DAEMON_ID,
          'must be a name of letters, digits, ".", "_" and "-", at most 63',
        ),
        'The name of this daemon; no two share one. Without it a new one makes one up and keeps it in its `dataDir`.',
      ),
      dataDir: key(
        path,
        'Where heads live: about as much disk as the sources use. Without it, `daemon` below `--home`.',
      ),
      headCache: key(
        size.refine((bytes) => bytes >= MIN_HEAD_CACHE_BYTES, 'must be at least 256MiB: mongod takes no less'),
        'The cache of the `mongod` of each head, at least `256MiB`.',
        '1GiB',
      ),
      mongod: key(
        typed(
          z.record(z.string().regex(MAJOR_VERSION, 'must be a major version in quotes, such as "6.0"'), path, {
            error: (issue) =>
              issue.code === 'invalid_key'
                ? 'must be a major version in quotes, such as "6.0"'
                : 'must be a map of major versions to paths, such as { "6.0": /usr/bin/mongod }',
          }),
          'map of major versions to paths',
        ),
        'The `mongod` to run heads with, by major version in quotes. Without one for the version of a source: `LIFEBOAT_MONGOD`, then the `PATH`, then what the set-up has provided.',
      ),
      takeoverAfter: key(
        takeoverAfter,
        'How long another daemon must have been silent before this one takes over its backups.',
        '30m',
      ),
      metrics: optionalSection(
        section({
          listen: key(
            listenAddress,
            'Where the worker shows its figures to Prometheus; without it, nowhere. Read when the worker starts.',
          ),
        }),
        'Figures for Prometheus.',
      ),
    }),
    'The worker that reads this file.',
  ),
  blockstore: key(store, 'Where snapshots are stored: a replica set of its own. Without it, the embedded one of `up`.'),
  syncStore: key(
    store,
    'Where slices of an initial sync are stored. Without it, on the replica set of the blockstore.',
  ),
  oplogStore: key(store, 'Where oplog entries are stored. Without it, on the replica set of the blockstore.'),
  limits: optionalSection(
    section({
      sourceReadMiBps: key(
        rate,
        'How fast the documents of one source are read, at most. Without it, as fast as it goes.',
      ),
      slicesInFlight: key(
        wholeNumber(MAX_SLICES_IN_FLIGHT),
        'Collections of one source that are copied at a time, and slices of about 10 MB held in memory.',
        String(defaults.slicesInFlight),
      ),
      verifyReadMiBps: key(
        rate,
        'How fast the documents of one source are read to be compared with its head while a snapshot is taken; no faster than `sourceReadMiBps`.',
        String(defaults.verifyReadMiBps),
      ),
      verifyFor: key(
        duration.refine(
          (ms) => ms <= MAX_VERIFY_MS,
          'must be at most 100s: a source is sure to tell of its past for a little longer only',
        ),
        'How long a snapshot may take to compare a part of the head with its source, during which the head stands still; at most `100s`. `0`: nothing is compared, and snapshots say so.',
        '60s',
      ),
    }),
    'What may be asked of a source. An edit is followed within seconds, also by a copy that is under way.',
  ),
  deployments: key(
    typed(
      z
        .record(z.string().regex(DEPLOYMENT_NAME), deployment, {
          error: (issue) =>
            issue.code === 'invalid_key'
              ? 'must be a name of a-z, 0-9 and "-", at most 63, that does not begin with "-"'
              : 'must be a map of names to deployments, such as { shop: { uri: "${SHOP_URI}" } }',
        })
        .nullable(),
      'map of names to deployments',
    ),
    'What is backed up: replica sets, by a name of `a-z`, `0-9` and `-`.',
  ),
  groom: notBuiltYet,
});

export type ConfigFile = z.infer<typeof fileSchema>;

/**
 * The configuration that a file stands for: defaults filled in, here and nowhere else.
 * @param absolute makes a path of the file absolute
 */
export function configOf(file: string, written: ConfigFile, absolute: (path: string) => string): Config {
  const { daemon, blockstore, syncStore, oplogStore, limits, deployments } = written;
  const sourceOf = ({ uri = '', uriFile, uriCommand }: WrittenSource): UriSource => {
    if (uriFile !== undefined) return { uriFile: absolute(uriFile) };
    if (uriCommand === undefined) return { uri };
    const [program, ...args] = uriCommand;
    // Without a slash it is looked for on the PATH.
    return { uriCommand: [program.includes('/') ? absolute(program) : program, ...args] };
  };
  return {
    file,
    daemon: {
      id: daemon?.id ?? null,
      dataDir: daemon?.dataDir === undefined ? null : absolute(daemon.dataDir),
      headCacheBytes: daemon?.headCache ?? defaults.headCacheBytes,
      mongod: new Map(Object.entries(daemon?.mongod ?? {}).map(([version, binary]) => [version, absolute(binary)])),
      takeoverAfterMs: daemon?.takeoverAfter ?? defaults.takeoverAfterMs,
      metricsListen: daemon?.metrics?.listen ?? null,
    },
    blockstore: blockstore ? sourceOf(blockstore) : null,
    syncStore: syncStore ? sourceOf(syncStore) : null,
    oplogStore: oplogStore ? sourceOf(oplogStore) : null,
    limits: {
      slicesInFlight: limits?.slicesInFlight ?? defaults.slicesInFlight,
      sourceReadBytesPerSecond: limits?.sourceReadMiBps === undefined ? null : limits.sourceReadMiBps * MIB,
      verifyReadBytesPerSecond: (limits?.verifyReadMiBps ?? defaults.verifyReadMiBps) * MIB,
      verifyForMs: limits?.verifyFor ?? defaults.verifyForMs,
    },
    deployments: new Map(
      Object.entries(deployments ?? {}).map(([name, entry]) => [
        name,
        {
          source: sourceOf(entry),
          readFrom: entry.readFrom ?? defaults.readFrom,
          pointInTimeWindowMs: entry.pointInTime?.window ?? defaults.pointInTimeWindowMs,
          keep: entry.snapshots?.keep ? definite(entry.snapshots.keep) : null,
          minOplogWindowMs: entry.minOplogWindow ?? defaults.minOplogWindowMs,
          allowUnverifiedVersion: entry.allowUnverifiedVersion ?? false,
          verifyWithin: entry.verifyWithin ?? defaults.verifyWithin,
          exclude: [...new Set(entry.exclude ?? [])],
        },
      ]),
    ),
  };
}

/** Only the tiers that are named. */
function definite(tiers: Readonly<Record<string, number | undefined>>): Keep {
  return Object.fromEntries(Object.entries(tiers).filter(([, count]) => count !== undefined));
}
