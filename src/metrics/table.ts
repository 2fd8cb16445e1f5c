/** Every figure that a worker shows Prometheus beside those of the Temporal SDK. docs/metrics.md is held to it. */

export interface MetricKind {
  readonly type: 'counter' | 'gauge';
  readonly labels: readonly string[];
  readonly help: string;
}

const MEMBER = ['deployment', 'member'] as const;

const kinds = {
  lifeboat_daemon_info: {
    type: 'gauge',
    labels: ['daemon'],
    help: 'Always 1: the daemon that this worker is.',
  },
  lifeboat_store_up: {
    type: 'gauge',
    labels: [],
    help: '1 when the stores answered this scrape; with 0 the gauges that are read from them are absent.',
  },
  lifeboat_phase: {
    type: 'gauge',
    labels: ['deployment', 'phase'],
    help: '1 for the phase that the backup is in, 0 for each of the others.',
  },
  lifeboat_problem: {
    type: 'gauge',
    labels: ['deployment', 'code'],
    help: '1 while the backup has the problem of that code; absent otherwise.',
  },
  lifeboat_lag_seconds: {
    type: 'gauge',
    labels: MEMBER,
    help: 'Between the newest optime seen on the source and the one that the head has applied.',
  },
  lifeboat_source_seen_timestamp_seconds: {
    type: 'gauge',
    labels: MEMBER,
    help: 'When the newest optime of the source was last asked for and told. The lag says nothing of what came since.',
  },
  lifeboat_oplog_window_left_seconds: {
    type: 'gauge',
    labels: MEMBER,
    help: 'How long the backup may stand still before the oplog of the source has moved on; absent while unknown.',
  },
  lifeboat_last_validated_timestamp_seconds: {
    type: 'gauge',
    labels: MEMBER,
    help: 'When the head was last compared with its source; absent when it never was.',
  },
  lifeboat_last_compared_timestamp_seconds: {
    type: 'gauge',
    labels: MEMBER,
    help: 'When a part of the head was last compared for a snapshot, and equal; absent when none was.',
  },
  lifeboat_head_up: {
    type: 'gauge',
    labels: MEMBER,
    help: '1 while the mongod of a head that this worker holds answers, 0 while it is being started anew.',
  },
  lifeboat_progress_ratio: {
    type: 'gauge',
    labels: [...MEMBER, 'stage'],
    help: 'How much of the stage at work is done, 0 to 1; absent while its total is not known.',
  },
  lifeboat_snapshots: {
    type: 'gauge',
    labels: ['deployment'],
    help: 'Snapshots that can be restored.',
  },
  lifeboat_newest_snapshot_timestamp_seconds: {
    type: 'gauge',
    labels: ['deployment'],
    help: 'The time of the source that the newest snapshot holds; its age is time() less this.',
  },
  lifeboat_newest_snapshot_bytes: {
    type: 'gauge',
    labels: ['deployment'],
    help: 'Bytes of all files of the newest snapshot.',
  },
  lifeboat_source_bytes_read_total: {
    type: 'counter',
    labels: [...MEMBER, 'kind'],
    help: 'BSON read from the source and stored; kind is documents or oplog.',
  },
  lifeboat_slices_stored_total: {
    type: 'counter',
    labels: MEMBER,
    help: 'Slices of documents stored by initial syncs.',
  },
  lifeboat_oplog_entries_stored_total: {
    type: 'counter',
    labels: MEMBER,
    help: 'Oplog entries stored.',
  },
  lifeboat_oplog_entries_applied_total: {
    type: 'counter',
    labels: MEMBER,
    help: 'Oplog entries applied to the head.',
  },
  lifeboat_snapshots_taken_total: {
    type: 'counter',
    labels: MEMBER,
    help: 'Snapshots committed.',
  },
  lifeboat_snapshot_comparisons_total: {
    type: 'counter',
    labels: ['deployment', 'outcome'],
    help: 'Committed snapshots; outcome, of comparing a part with the source, is equal, different or not-compared.',
  },
  lifeboat_snapshot_blocks_total: {
    type: 'counter',
    labels: [...MEMBER, 'kind'],
    help: 'Blocks of committed snapshots; kind is new or reused.',
  },
  lifeboat_snapshot_stored_bytes_total: {
    type: 'counter',
    labels: MEMBER,
    help: 'What the new blocks of committed snapshots take in the blockstore, compressed.',
  },
  lifeboat_restores_total: {
    type: 'counter',
    labels: ['deployment', 'outcome'],
    help: 'Restores that ended; outcome is done, failed or cancelled.',
  },
  lifeboat_snapshot_verifications_total: {
    type: 'counter',
    labels: ['outcome'],
    help: 'Verifications of snapshots that ended; outcome is sound or damaged.',
  },
  lifeboat_errors_total: {
    type: 'counter',
    labels: ['deployment', 'activity', 'code'],
    help: 'Attempts of activities that failed, by the code of the error; also those that were tried again and went well.',
  },
} as const satisfies Readonly<Record<string, MetricKind>>;

export type MetricName = keyof typeof kinds;

type NamesOf<T extends MetricKind['type']> = {
  [K in MetricName]: (typeof kinds)[K]['type'] extends T ? K : never;
}[MetricName];
export type CounterName = NamesOf<'counter'>;
export type GaugeName = NamesOf<'gauge'>;

/** The labels of a figure, each of which it needs. */
export type LabelsOf<K extends MetricName> = Readonly<Record<(typeof kinds)[K]['labels'][number], string>>;

export const METRICS: Readonly<Record<MetricName, MetricKind>> = kinds;

export function metricNames(): MetricName[] {
  return Object.keys(METRICS) as MetricName[];
}
