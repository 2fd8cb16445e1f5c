/** Workflow `deleteSnapshot`: one snapshot deleted; a groom frees what only it referred to. */
import { setCurrentDetails } from '@temporalio/workflow';
import type { DeletedSnapshot, DeleteSnapshotInput } from '../shared/messages.ts';
import { anywhere } from './anywhere.ts';
import { fieldsOf, textField } from './input.ts';
import { tagSnapshot } from './tags.ts';

export async function deleteSnapshot(input: DeleteSnapshotInput): Promise<DeletedSnapshot> {
  const snapshot = textField('deleteSnapshot', fieldsOf('deleteSnapshot', input, ['snapshot']), 'snapshot');
  tagSnapshot(snapshot);
  await anywhere((daemon) => daemon.removeSnapshot({ snapshot }));
  setCurrentDetails(`Snapshot \`${snapshot}\` is deleted.`);
  return { id: snapshot };
}
