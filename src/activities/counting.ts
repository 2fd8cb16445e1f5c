/** What the steps count, as figures for Prometheus. */
import type { Metrics } from '../metrics/registry.ts';
import type { MemberClaim } from '../shared/messages.ts';
import type { Counted } from '../steps/context.ts';

/** Whose work is counted; a member is empty while there is none. */
export interface MemberLabels {
  readonly deployment: string;
  readonly member: string;
}

/** Work that is of no single deployment. */
export const NO_MEMBER: MemberLabels = { deployment: '', member: '' };

export function labelsOf({
  deployment,
  member,
}: {
  readonly deployment: string;
  readonly member?: MemberClaim | null;
}): MemberLabels {
  return { deployment, member: member?.member ?? '' };
}

export function errorLabels({ deployment }: MemberLabels): { readonly deployment: string } {
  return { deployment };
}

export function counting(metrics: Metrics, labels: MemberLabels): (what: Counted, amount: number) => void {
  return (what, amount) => {
    switch (what) {
      case 'documentBytesRead':
        metrics.count('lifeboat_source_bytes_read_total', { ...labels, kind: 'documents' }, amount);
        break;
      case 'oplogBytesRead':
        metrics.count('lifeboat_source_bytes_read_total', { ...labels, kind: 'oplog' }, amount);
        break;
      case 'slicesStored':
        metrics.count('lifeboat_slices_stored_total', labels, amount);
        break;
      case 'entriesStored':
        metrics.count('lifeboat_oplog_entries_stored_total', labels, amount);
        break;
      case 'entriesApplied':
        metrics.count('lifeboat_oplog_entries_applied_total', labels, amount);
        break;
      case 'blocksNew':
        metrics.count('lifeboat_snapshot_blocks_total', { ...labels, kind: 'new' }, amount);
        break;
      case 'blocksReused':
        metrics.count('lifeboat_snapshot_blocks_total', { ...labels, kind: 'reused' }, amount);
        break;
      case 'blockBytesStored':
        metrics.count('lifeboat_snapshot_stored_bytes_total', labels, amount);
        break;
    }
  };
}
