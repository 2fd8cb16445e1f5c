/** Workflow `releaseSnapshot`: the hold of a snapshot is taken back. */
import type { ReleaseSnapshotInput, SnapshotSummary } from '../shared/messages.ts';
import { anywhere } from './anywhere.ts';
import { fieldsOf, textField } from './input.ts';
import { tagSnapshot } from './tags.ts';

export async function releaseSnapshot(input: ReleaseSnapshotInput): Promise<SnapshotSummary> {
  const snapshot = textField('releaseSnapshot', fieldsOf('releaseSnapshot', input, ['snapshot']), 'snapshot');
  tagSnapshot(snapshot);
  return anywhere((daemon) => daemon.releaseSnapshot({ snapshot }));
}
