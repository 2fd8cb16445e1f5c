/** `lifeboat validations`: what came of comparing heads with their sources. */
import { fromTimestamp } from '../../mongo/positions.ts';
import { LifeboatError } from '../../shared/errors.ts';
import type { Optime } from '../../shared/optime.ts';
import type { StoredFinding, ValidationRecord } from '../../stores/records.ts';
import { extentOf, type Extent } from '../../validation/findings.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { findingOf, findingText, section, type FindingView } from '../findings.ts';
import { withStores } from '../stores.ts';
import { bytes, fields, optime, table, time } from '../text.ts';

/** A validation as the command line shows it; times are ISO 8601. */
interface ValidationView {
  readonly id: string;
  readonly deployment: string;
  readonly member: string;
  readonly incarnation: string;
  readonly state: ValidationRecord['state'];
  readonly stage: ValidationRecord['stage'];
  readonly round: number;
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly optime: Optime | null;
  readonly collections: number;
  readonly ranges: number;
  readonly documents: number;
  readonly bytes: number;
  readonly repaired: readonly FindingView[];
  readonly notCompared: ValidationRecord['notCompared'];
  readonly failed: readonly FindingView[];
}

export async function listValidations(context: CliContext, name: string | undefined): Promise<Outcome> {
  const filter = name === undefined ? {} : { deployment: name };
  const records = await withStores(context, (stores) =>
    stores.validations.find(filter).sort({ startedAt: 1 }).toArray(),
  );
  const validations = records.map((record) => ({
    ...viewOf(record),
    // One line each: what was found is told by `show`.
    repaired: documentsOf(record.repaired),
    notCompared: record.notCompared.length,
    failed: record.failed.length,
  }));
  const none = 'Nothing was validated yet.';
  return { result: { validations }, text: validations.length === 0 ? none : validationsTable(records) };
}

/** @throws LifeboatError `UnknownValidation` */
export async function showValidation(context: CliContext, id: string): Promise<Outcome> {
  const record = await withStores(context, (stores) => stores.validations.findOne({ _id: id }));
  if (!record) throw new LifeboatError('UnknownValidation', `there is no validation ${id}`);
  const view = viewOf(record);
  return { result: view, text: validationText(view) };
}

function viewOf(record: ValidationRecord): ValidationView {
  const { _id: id, deployment, member, state, stage, round, collections, ranges, documents } = record;
  return {
    id,
    deployment,
    member,
    incarnation: record.incarnation.toHexString(),
    state,
    stage,
    round,
    startedAt: record.startedAt.toISOString(),
    endedAt: record.endedAt?.toISOString() ?? null,
    optime: record.comparedAt && fromTimestamp(record.comparedAt.ts),
    collections,
    ranges,
    documents,
    bytes: record.bytes,
    repaired: record.repaired.map(findingOf),
    notCompared: record.notCompared,
    failed: record.failed.map(findingOf),
  };
}

function documentsOf(findings: readonly StoredFinding[]): number {
  return findings.reduce((sum, { count }) => sum + count, 0);
}

function validationsTable(records: readonly ValidationRecord[]): string {
  return table(
    ['ID', 'STATE', 'STARTED', 'DOCUMENTS', 'REPAIRED', 'NOT COMPARED', 'FAILED'],
    records.map((record) => [
      record._id,
      record.state === 'equal' ? EQUAL_TEXT[extentOf(record)] : record.state,
      time(record.startedAt.toISOString()),
      String(record.documents),
      String(documentsOf(record.repaired)),
      String(record.notCompared.length),
      String(record.failed.length),
    ]),
    [3, 4, 5, 6],
  );
}

/** What `equal` is true of. */
const EQUAL_TEXT = {
  all: 'equal',
  part: 'equal as far as compared',
  nothing: 'nothing compared',
} as const satisfies Record<Extent, string>;

function stateText(view: ValidationView): string {
  if (view.state === 'running') return `running (${view.stage})`;
  return view.state === 'equal' ? EQUAL_TEXT[extentOf(view)] : view.state;
}

function validationText(view: ValidationView): string {
  const summary = fields([
    ['validation', view.id],
    ['deployment', view.deployment],
    ['state', stateText(view)],
    ['started', time(view.startedAt)],
    ['ended', view.endedAt && time(view.endedAt)],
    ['compared at', view.optime && optime(view.optime)],
    ['equal', `${view.documents} documents, ${bytes(view.bytes)}, in ${view.ranges} ranges`],
  ]);
  return [
    summary,
    ...section('Fetched anew, and equal since', view.repaired.map(findingText)),
    ...section(
      'Not compared',
      view.notCompared.map(({ namespace, reason }) => `${namespace}: ${reason}`),
    ),
    ...section('Different', view.failed.map(findingText)),
  ].join('\n');
}
