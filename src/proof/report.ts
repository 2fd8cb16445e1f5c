/** What a proof of equality says. Holds names of namespaces, options and indexes; never a document. */

export type DifferenceKind =
  /** The namespace is on one side only. */
  | 'namespace-missing'
  | 'namespace-extra'
  /** A collection here, a view or a time-series there. */
  | 'type'
  | 'options'
  | 'uuid'
  | 'indexes'
  /** Documents that only the source has, that only the copy has, and of the same `_id` with other bytes. */
  | 'missing'
  | 'extra'
  | 'different'
  /** The same documents of a capped collection in another natural order. */
  | 'order';

export interface Difference {
  readonly namespace: string;
  readonly kind: DifferenceKind;
  /** Documents, options or indexes that differ; 1 where there is nothing to count. */
  readonly count: number;
  /** True when the comparison gave up counting: there are at least so many. */
  readonly atLeast?: true;
  /** The options or indexes that differ. */
  readonly names?: readonly string[];
  /** Canonical extended JSON of `_id`s, only when asked for: they are user data, for the memory of a test. */
  readonly ids?: readonly string[];
}

export interface NotCompared {
  readonly namespace: string;
  readonly reason: string;
}

export interface EqualityReport {
  /** True when everything was compared and nothing differs; what could not be compared is never taken for equal. */
  readonly equal: boolean;
  readonly comparedCollections: number;
  readonly comparedViews: number;
  readonly comparedDocuments: number;
  /** Bytes of the documents compared, of one side. */
  readonly comparedBytes: number;
  readonly differences: readonly Difference[];
  readonly notCompared: readonly NotCompared[];
}
