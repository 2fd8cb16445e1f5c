/** Workflow `holdSnapshot`: a snapshot is held; nobody deletes it until it is released. */
import type { HoldSnapshotInput, SnapshotSummary } from '../shared/messages.ts';
import { anywhere } from './anywhere.ts';
import { fieldsOf, optionalText, textField } from './input.ts';
import { tagSnapshot } from './tags.ts';

export async function holdSnapshot(input: HoldSnapshotInput): Promise<SnapshotSummary> {
  const fields = fieldsOf('holdSnapshot', input, ['snapshot', 'reason']);
  const snapshot = textField('holdSnapshot', fields, 'snapshot');
  const reason = optionalText('holdSnapshot', fields, 'reason') ?? null;
  tagSnapshot(snapshot);
  return anywhere((daemon) => daemon.holdSnapshot({ snapshot, reason }));
}
