/**
 * Every error that Lifeboat raises has a code from this table, and this table alone says who can mend it, how, and
 * whether trying again can help. A message says what happened and to what; the fix says what to do.
 *
 * Server error texts quote documents and keys, so a cause never leaves the process: `LifeboatError.cause` is for a
 * debugger, and what travels is code, message and fix (design decision 2).
 */

/** Who can mend it: the person who runs Lifeboat, or us. `nobody` needs no mending: it passes by itself. */
export type ErrorOwner = 'operator' | 'developer' | 'nobody';

interface ErrorKind {
  /** `LB` and four digits: 1 usage and configuration, 2 source, 3 stores, 4 head, 5 snapshots, 6 restores, 7 Temporal and daemons, 9 internal. */
  readonly code: `LB${number}`;
  readonly owner: ErrorOwner;
  /** Whether the same step may succeed when it is simply run again. */
  readonly retryable: boolean;
  readonly fix: string;
}

const kinds = {
  // 1: usage and configuration
  BadUsage: {
    code: 'LB1001',
    owner: 'operator',
    retryable: false,
    fix: 'Run the command with --help and correct its words.',
  },
  NotBuiltYet: {
    code: 'LB1002',
    owner: 'operator',
    retryable: false,
    fix: 'This version cannot do it yet; CHANGELOG.md says what each version can do.',
  },
  ConfigInvalid: {
    code: 'LB1003',
    owner: 'operator',
    retryable: false,
    fix: 'Correct the configuration file at the line named.',
  },
  ConfigMissing: {
    code: 'LB1004',
    owner: 'operator',
    retryable: false,
    fix: 'Name the configuration file with --config, or make one with `lifeboat deployments add NAME --uri URI`.',
  },
  UnknownDeployment: {
    code: 'LB1005',
    owner: 'operator',
    retryable: false,
    fix: 'Run `lifeboat deployments list`, or add it with `lifeboat deployments add NAME --uri URI`.',
  },
  BadOptime: {
    code: 'LB1006',
    owner: 'operator',
    retryable: false,
    fix: 'Write an optime as SECONDS,ORDINAL, for example 1767225600,1.',
  },
  BadInput: {
    code: 'LB1007',
    owner: 'operator',
    retryable: false,
    fix: 'Start the workflow with one JSON object of the documented fields.',
  },
  DeploymentExists: {
    code: 'LB1008',
    owner: 'operator',
    retryable: false,
    fix: 'Choose another name, or remove the old one first with `lifeboat deployments remove NAME`.',
  },
  DeploymentBusy: {
    code: 'LB1009',
    owner: 'operator',
    retryable: false,
    fix: 'Stop its backup first with `lifeboat backup stop NAME`.',
  },
  SecretMissing: {
    code: 'LB1010',
    owner: 'operator',
    retryable: false,
    fix: 'Set the environment variable, or make the file readable, on the machine of the worker.',
  },
  BadTime: {
    code: 'LB1011',
    owner: 'operator',
    retryable: false,
    fix: 'Write the time as ISO 8601 with its zone, such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00, or as SECONDS,ORDINAL, an optime.',
  },
  SecretCommandFailed: {
    code: 'LB1020',
    owner: 'operator',
    retryable: true,
    fix: 'Run the program of uriCommand by hand, on the machine and as the user of the worker: it is to print the connection string, and nothing else, within 10 seconds.',
  },

  // 2: the source
  BadUri: {
    code: 'LB2001',
    owner: 'operator',
    retryable: false,
    fix: 'Give a MongoDB connection string, such as mongodb://host1,host2/?replicaSet=rs0.',
  },
  SourceUnavailable: {
    code: 'LB2002',
    owner: 'nobody',
    retryable: true,
    fix: 'It is tried again until the source answers; see that a member of the source is up and reachable from the worker.',
  },
  AuthFailed: {
    code: 'LB2003',
    owner: 'operator',
    retryable: false,
    fix: 'Correct user, password and authSource in the URI of the deployment.',
  },
  NotAuthorized: {
    code: 'LB2004',
    owner: 'operator',
    retryable: false,
    fix: 'Grant the user the roles "backup" and "clusterMonitor" on the database admin.',
  },
  NotAReplicaSet: {
    code: 'LB2005',
    owner: 'operator',
    retryable: false,
    fix: 'Start the server with --replSet and run rs.initiate(); a standalone keeps no oplog to follow.',
  },
  NoDataMember: {
    code: 'LB2006',
    owner: 'operator',
    retryable: false,
    fix: 'Name a data-bearing member in the URI; arbiters hold no data.',
  },
  WrongReplicaSet: {
    code: 'LB2007',
    owner: 'operator',
    retryable: false,
    fix: 'The URI reaches another replica set than the one that is backed up: correct it, or add the other set as a deployment of its own.',
  },
  OplogGap: {
    code: 'LB2008',
    owner: 'operator',
    retryable: false,
    fix: 'Entries were lost from the source oplog before they were read. Run `lifeboat backup resync NAME`, and enlarge the oplog if it comes again.',
  },
  SourceRolledBack: {
    code: 'LB2009',
    owner: 'operator',
    retryable: false,
    fix: 'The source rolled back entries that were already backed up. Run `lifeboat backup resync NAME`.',
  },
  UnsupportedVersion: {
    code: 'LB2010',
    owner: 'operator',
    retryable: false,
    fix: 'Name a mongod of the major version of the source under daemon.mongod in the configuration.',
  },
  UnsupportedSource: {
    code: 'LB2011',
    owner: 'operator',
    retryable: false,
    fix: 'This kind of deployment cannot be backed up by this version; CHANGELOG.md says what each version can do.',
  },
  SourceNotReady: {
    code: 'LB2012',
    owner: 'nobody',
    retryable: true,
    fix: 'It is tried again. If it stays so, see that the replica set has a primary and a majority of its members.',
  },
  FeatureVersionChanged: {
    code: 'LB2017',
    owner: 'operator',
    retryable: false,
    fix: 'The feature compatibility version of the source was changed, and a head is made under one. Run `lifeboat backup resync NAME` once setFeatureCompatibilityVersion has ended; snapshots that were taken before stay good.',
  },
  ExcludeChanged: {
    code: 'LB2018',
    owner: 'operator',
    retryable: false,
    fix: 'A backup holds to the list of its initial sync. Run `lifeboat backup resync NAME` to have the new one take effect; snapshots that were taken before stay good. Or put the old list back.',
  },
  AccessLapsed: {
    code: 'LB2020',
    owner: 'operator',
    retryable: true,
    fix: 'Access that worked before is refused. If a password or a certificate was changed or has expired, put the new one where the URI of the deployment has it from; the backup goes on by itself with it.',
  },
  TlsFailed: {
    code: 'LB2021',
    owner: 'operator',
    retryable: false,
    fix: 'Correct tls, tlsCAFile and tlsCertificateKeyFile in the URI of the deployment, or the certificate of the server; docs/access.md has an example.',
  },

  OplogWindowTooShort: {
    code: 'LB2013',
    owner: 'operator',
    retryable: false,
    fix: 'Enlarge the oplog with replSetResizeOplog, or have it keep entries for longer with minRetentionHours; deployments.NAME.minOplogWindow says what is asked for.',
  },
  OplogRunningOut: {
    code: 'LB2014',
    owner: 'operator',
    retryable: false,
    fix: 'Let the backup go on (`lifeboat backup resume NAME` if it is paused) or enlarge the oplog with replSetResizeOplog, before entries are lost that only a resync makes up for.',
  },
  VersionUnverified: {
    code: 'LB2015',
    owner: 'operator',
    retryable: false,
    fix: 'Set deployments.NAME.allowUnverifiedVersion: true to back it up all the same, and restore a snapshot as a trial.',
  },
  MemberNotHealthy: {
    code: 'LB2016',
    owner: 'operator',
    retryable: false,
    fix: 'See to the members named; the backup reads from the others.',
  },

  // 3: the stores
  StoreUnavailable: {
    code: 'LB3001',
    owner: 'nobody',
    retryable: true,
    fix: 'See that the blockstore is up and its replica set has a primary; work that runs is tried again until it answers.',
  },
  StoreOnSource: {
    code: 'LB3002',
    owner: 'operator',
    retryable: false,
    fix: 'Put the blockstore on a replica set of its own: on the source, its writes would feed themselves to the backup.',
  },
  StoreNotReplicaSet: {
    code: 'LB3003',
    owner: 'operator',
    retryable: false,
    fix: 'The stores need majority writes: run their mongod with --replSet and rs.initiate().',
  },
  StoreFull: {
    code: 'LB3004',
    owner: 'operator',
    retryable: true,
    fix: 'Free space on the disk of the blockstore; the work goes on by itself afterwards.',
  },
  SliceDamaged: {
    code: 'LB3005',
    owner: 'operator',
    retryable: false,
    fix: 'A stored slice does not match its checksum. Run `lifeboat backup resync NAME`, and check the disk of the sync store.',
  },
  EntriesDamaged: {
    code: 'LB3006',
    owner: 'operator',
    retryable: false,
    fix: 'Stored oplog entries do not match their checksum. Run `lifeboat backup resync NAME`, and check the disk of the oplog store.',
  },
  EntriesMissing: {
    code: 'LB3007',
    owner: 'operator',
    retryable: false,
    fix: 'The chain of stored oplog entries is broken. Run `lifeboat backup resync NAME`.',
  },
  SliceMissing: {
    code: 'LB3008',
    owner: 'operator',
    retryable: false,
    fix: 'The chain of stored slices is broken. Run `lifeboat backup resync NAME`.',
  },
  StoreAuthFailed: {
    code: 'LB3009',
    owner: 'operator',
    retryable: false,
    fix: 'Correct the user, password or roles (readWrite on the stores, clusterMonitor) in the URI of the store.',
  },
  StoreBadUri: {
    code: 'LB3010',
    owner: 'operator',
    retryable: false,
    fix: 'Give the store a MongoDB connection string, such as mongodb://host1,host2/?replicaSet=blocks.',
  },
  NoStore: {
    code: 'LB3011',
    owner: 'operator',
    retryable: false,
    fix: 'Start the embedded one with `lifeboat up`, or name one under blockstore.uri in the configuration.',
  },
  StoreAccessLapsed: {
    code: 'LB3020',
    owner: 'operator',
    retryable: true,
    fix: 'Access that worked before is refused. If a password or a certificate was changed or has expired, put the new one where the URI of the store has it from; the work goes on by itself with it.',
  },
  StoreTlsFailed: {
    code: 'LB3021',
    owner: 'operator',
    retryable: false,
    fix: 'Correct tls, tlsCAFile and tlsCertificateKeyFile in the URI of the store, or the certificate of the server; docs/access.md has an example.',
  },

  // 4: the head
  HeadStartFailed: {
    code: 'LB4001',
    owner: 'operator',
    retryable: true,
    fix: 'Read the log named in the message; most often the disk is full or the mongod is of the wrong version.',
  },
  HeadForeign: {
    code: 'LB4002',
    owner: 'operator',
    retryable: false,
    fix: 'The head directory belongs to another backup. Move it away, or give the daemon another dataDir.',
  },
  HeadLost: {
    code: 'LB4003',
    owner: 'nobody',
    retryable: true,
    fix: 'The head mongod ended; it is started again and goes on from its durable position.',
  },
  Diverged: {
    code: 'LB4004',
    owner: 'operator',
    retryable: false,
    fix: 'The head differs from the source. Run `lifeboat backup resync NAME` and report the message.',
  },
  UnknownEntry: {
    code: 'LB4005',
    owner: 'developer',
    retryable: false,
    fix: 'The oplog holds an entry that this version does not know. The backup stopped before it; a newer version may know it.',
  },
  EntryNotSupported: {
    code: 'LB4006',
    owner: 'operator',
    retryable: false,
    fix: 'The oplog holds an operation that cannot be replayed on the head. Run `lifeboat backup resync NAME` after it is over.',
  },
  ShadowedCollection: {
    code: 'LB4034',
    owner: 'operator',
    retryable: false,
    fix: 'The source has a collection and the buckets of a time series of the same name, which a race of its server leaves behind: what is meant for the one goes to the other. Drop whichever is not wanted, then run `lifeboat backup resync NAME`.',
  },
  IndexBuildFailed: {
    code: 'LB4007',
    owner: 'operator',
    retryable: false,
    fix: 'An index of the source cannot be built on the head. Run `lifeboat backup resync NAME` and report the message.',
  },
  HeadInconsistent: {
    code: 'LB4008',
    owner: 'nobody',
    retryable: true,
    fix: 'The head is being brought to a consistent optime; it is tried again.',
  },
  DiskFull: {
    code: 'LB4009',
    owner: 'operator',
    retryable: true,
    fix: 'Free space on the disk of the daemon; the work goes on by itself afterwards.',
  },
  MongodMissing: {
    code: 'LB4010',
    owner: 'operator',
    retryable: false,
    fix: 'Set LIFEBOAT_MONGOD or daemon.mongod, or put mongod on the PATH of the worker.',
  },
  IndexFormRefused: {
    code: 'LB4033',
    owner: 'operator',
    retryable: false,
    fix: 'An older server made this index, and none of today makes one like it. On the source drop it and create it again, then run `lifeboat backup resync NAME`.',
  },
  HeadStrained: {
    code: 'LB4031',
    owner: 'operator',
    retryable: true,
    fix: 'The mongod of the head had not enough cache, or was too busy. It is tried again; if it comes again, give daemon.headCache more.',
  },
  HeadUnfinished: {
    code: 'LB4032',
    owner: 'nobody',
    // The initial sync goes back to the step that makes the head so.
    retryable: false,
    fix: 'The head is not as the step of the initial sync needs it; the sync goes back to building it.',
  },
  HeadMissing: {
    code: 'LB4011',
    owner: 'operator',
    retryable: false,
    fix: 'The daemon no longer has the data of the head, and it cannot be made again from a snapshot. Run `lifeboat backup resync NAME`; its snapshots stay.',
  },
  HeadFilling: {
    code: 'LB4020',
    owner: 'nobody',
    retryable: true,
    fix: 'The head is being made again from its newest snapshot; what needs it goes on by itself.',
  },
  ValidationFailed: {
    code: 'LB4015',
    owner: 'operator',
    retryable: false,
    fix: 'The head differs from the source and could not be made equal. See `lifeboat validations show ID`, then run `lifeboat backup resync NAME`.',
  },
  UnknownValidation: {
    code: 'LB4016',
    owner: 'operator',
    retryable: false,
    fix: 'Run `lifeboat validations list` for the ids there are.',
  },

  DiskTooSmall: {
    code: 'LB4012',
    owner: 'operator',
    retryable: false,
    fix: 'Free space on the disk of daemon.dataDir, or name a dataDir on a larger one: a head takes about as much as its source.',
  },
  OpenFilesTooFew: {
    code: 'LB4013',
    owner: 'operator',
    retryable: false,
    fix: 'Raise the limit of open files of the worker (ulimit -n, or LimitNOFILE of its service): mongod keeps a file open for each collection and each index.',
  },

  // 5: snapshots
  UnknownSnapshot: {
    code: 'LB5001',
    owner: 'operator',
    retryable: false,
    fix: 'Run `lifeboat snapshots list` for the ids there are.',
  },
  BlockDamaged: {
    code: 'LB5002',
    owner: 'operator',
    retryable: false,
    fix: 'A stored block does not match its hash. Take a snapshot: what the head still holds is stored again, for the older snapshots too. Check the disk of the blockstore.',
  },
  BlockMissing: {
    code: 'LB5003',
    owner: 'operator',
    retryable: false,
    fix: 'A block of the snapshot is not in the blockstore. Take a snapshot: what the head still holds is stored again, for the older snapshots too. Check the disk of the blockstore.',
  },
  ManifestDamaged: {
    code: 'LB5004',
    owner: 'operator',
    retryable: false,
    fix: 'The manifest of the snapshot does not match its checksum. Restore from another snapshot, and delete this one (`lifeboat snapshots delete ID`): while it is there, no groom and no purge frees anything.',
  },
  SnapshotLockLost: {
    code: 'LB5005',
    owner: 'nobody',
    retryable: true,
    fix: 'The head was restarted while it was cut into blocks; the snapshot is taken again at a newer optime.',
  },
  NoBackup: {
    code: 'LB5006',
    owner: 'operator',
    retryable: false,
    fix: 'Start the backup first with `lifeboat backup start NAME`.',
  },
  BackupNotRunning: {
    code: 'LB5007',
    owner: 'operator',
    retryable: false,
    fix: 'A snapshot needs a backup in routine operation: see `lifeboat backup status NAME`.',
  },
  SnapshotPinned: {
    code: 'LB5008',
    owner: 'operator',
    retryable: false,
    fix: 'A held snapshot goes after `lifeboat snapshots release ID`. The last good one of a deployment, and those that its restores to a point in time rest on, stay until newer ones have taken their place, which takes a backup that runs; `lifeboat purge NAME` removes all of a deployment.',
  },
  SnapshotInUse: {
    code: 'LB5009',
    owner: 'operator',
    retryable: false,
    fix: 'Wait until the restore, verification or snapshot that reads it has ended, or end it (`lifeboat restores cancel ID`), and delete it then.',
  },
  GroomRuns: {
    code: 'LB5010',
    owner: 'operator',
    retryable: false,
    fix: 'One groom does it all: wait for the one that runs, workflow `groom` in the Temporal UI.',
  },

  PurgeUnderWay: {
    code: 'LB5020',
    owner: 'operator',
    retryable: false,
    fix: 'A purge of this deployment has begun and not ended: run `lifeboat purge NAME` to its end first.',
  },
  NothingStored: {
    code: 'LB5021',
    owner: 'operator',
    retryable: false,
    fix: 'Run `lifeboat backup status` and `lifeboat snapshots list` for the deployments of which anything is stored.',
  },

  // 6: restores
  TargetNotEmpty: {
    code: 'LB6001',
    owner: 'operator',
    retryable: false,
    fix: 'Restore into a directory that is absent or empty.',
  },
  TargetUnusable: {
    code: 'LB6002',
    owner: 'operator',
    retryable: false,
    fix: 'Name a directory that the worker can write to, outside the data of Lifeboat and of any mongod.',
  },
  TargetFull: {
    code: 'LB6003',
    owner: 'operator',
    retryable: true,
    fix: 'Free space on the disk of the destination; the restore goes on by itself afterwards.',
  },
  RestoreProofFailed: {
    code: 'LB6004',
    owner: 'operator',
    retryable: false,
    fix: 'The restored files did not prove sound and were not handed over. Restore another snapshot and report the message.',
  },
  ProofInterrupted: {
    code: 'LB6006',
    owner: 'nobody',
    retryable: true,
    fix: 'The mongod that proves the restored files ended early; the restore goes on by itself. Read the log named in the message if it comes again.',
  },
  TimeNotRestorable: {
    code: 'LB6007',
    owner: 'operator',
    retryable: false,
    fix: 'Choose a time inside one of the ranges that `lifeboat backup status NAME` lists, or a snapshot; pointInTime.window says for how long entries are kept.',
  },
  ReplayInterrupted: {
    code: 'LB6008',
    owner: 'nobody',
    retryable: true,
    fix: 'The mongod to which stored oplog entries are applied ended early; the restore goes on by itself where it was. Read the log named in the message if it comes again.',
  },
  ReplayFailed: {
    code: 'LB6009',
    owner: 'operator',
    retryable: false,
    fix: 'Nothing was handed over. Restore the snapshot before that time by itself, or a time before the entry that is named, or one that a later snapshot leads to.',
  },
  UnknownRestore: {
    code: 'LB6005',
    owner: 'operator',
    retryable: false,
    fix: 'Run `lifeboat restores list` for the ids there are.',
  },

  // 7: Temporal and daemons
  TemporalUnavailable: {
    code: 'LB7001',
    owner: 'operator',
    retryable: true,
    fix: 'Start one with `lifeboat up`, or set TEMPORAL_ADDRESS to the one that runs.',
  },
  SearchAttributesMissing: {
    code: 'LB7002',
    owner: 'operator',
    retryable: false,
    fix: 'Run: temporal operator search-attribute create --name LifeboatDeployment --type Keyword --name LifeboatPhase --type Keyword',
  },
  DaemonLocked: {
    code: 'LB7003',
    owner: 'operator',
    retryable: false,
    fix: 'Another worker uses this dataDir: stop it, or give this one another daemon.dataDir.',
  },
  FenceLost: {
    code: 'LB7004',
    owner: 'nobody',
    // The same step shows the same fence again; its workflow makes a new claim and runs it under that.
    retryable: false,
    fix: 'Another attempt took the work over; this one stopped.',
  },
  BackupExists: {
    code: 'LB7005',
    owner: 'operator',
    retryable: false,
    fix: 'The backup of this deployment already runs: see `lifeboat backup status NAME`.',
  },
  DaemonUnknown: {
    code: 'LB7006',
    owner: 'operator',
    retryable: false,
    fix: 'Name a daemon whose worker runs, or leave --daemon out.',
  },
  EmbeddedFailed: {
    code: 'LB7007',
    owner: 'operator',
    retryable: true,
    fix: 'Read the log named in the message.',
  },
  BinaryMissing: {
    code: 'LB7008',
    owner: 'operator',
    retryable: false,
    fix: 'Run `npm run setup`, or name the binary in LIFEBOAT_MONGOD or LIFEBOAT_TEMPORAL.',
  },
  TimedOut: {
    code: 'LB7009',
    owner: 'nobody',
    retryable: true,
    fix: 'The work goes on without you; ask for its state again, or wait longer with --timeout.',
  },
  Interrupted: {
    code: 'LB7010',
    owner: 'nobody',
    retryable: true,
    fix: 'Work that was started goes on without you; ask for its state, or run the command again.',
  },
  WorkCancelled: {
    code: 'LB7011',
    owner: 'operator',
    retryable: false,
    fix: 'Somebody ended the work; start it again if it is still wanted.',
  },
  NoWorker: {
    code: 'LB7012',
    owner: 'operator',
    retryable: true,
    fix: 'Start one with `lifeboat up` or `lifeboat worker`, and see that it talks to the same Temporal.',
  },
  NotInEffectYet: {
    code: 'LB7013',
    owner: 'nobody',
    retryable: true,
    fix: 'It takes effect by itself, as soon as what it waits for answers: see `lifeboat backup status NAME`.',
  },
  DaemonIdTaken: {
    code: 'LB7019',
    owner: 'operator',
    retryable: false,
    fix: 'Give each worker a daemon.id of its own, or leave it out; each makes one up and keeps it in its dataDir.',
  },

  DaemonPresent: {
    code: 'LB7020',
    owner: 'operator',
    retryable: false,
    fix: 'Stop its worker first. If its machine is gone, wait half a minute and try again.',
  },
  DaemonRetired: {
    code: 'LB7021',
    owner: 'operator',
    retryable: false,
    fix: 'Its disk is gone with it: start the restore again on another daemon.',
  },
  DaemonSilent: {
    code: 'LB7022',
    owner: 'operator',
    retryable: true,
    fix: 'Start its worker again, or run `lifeboat daemons retire ID` if it is gone for good: another daemon then takes over.',
  },
  MetricsPortTaken: {
    code: 'LB7030',
    owner: 'operator',
    retryable: false,
    fix: 'End the process that listens there, or give daemon.metrics.listen another address.',
  },

  // 9: internal
  Internal: {
    code: 'LB9001',
    owner: 'developer',
    retryable: true,
    fix: 'This is a defect of Lifeboat: please report it with the log of the worker.',
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorName = keyof typeof kinds;

/** What the table says of one kind of error. */
export function errorKind(name: ErrorName): ErrorKind {
  return kinds[name];
}

/** All names of the table, in its order. */
export function errorNames(): ErrorName[] {
  return Object.keys(kinds) as ErrorName[];
}

/** The name that carries `code`, or undefined when no error has it. */
export function errorNameOf(code: string): ErrorName | undefined {
  return errorNames().find((name) => kinds[name].code === code);
}

/** The one error class of Lifeboat. `message` says what happened and to what, without any user document or secret. */
export class LifeboatError extends Error {
  override readonly name = 'LifeboatError';
  /** The key of the table. */
  readonly kind: ErrorName;
  /** `LB…` */
  readonly code: string;
  readonly retryable: boolean;
  readonly fix: string;

  constructor(kind: ErrorName, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.kind = kind;
    this.code = kinds[kind].code;
    this.retryable = kinds[kind].retryable;
    this.fix = kinds[kind].fix;
  }
}

/** True when `error` is a LifeboatError of that kind (of any kind when none is given). */
export function isLifeboatError(error: unknown, kind?: ErrorName): error is LifeboatError {
  return error instanceof LifeboatError && (kind === undefined || error.kind === kind);
}
