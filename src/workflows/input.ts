/**
 * Reading the one JSON object that each workflow takes. It may come from the web UI or a command line, typed by hand:
 * whatever is missing, misspelt or unknown is refused by name.
 */
import { isLifeboatError } from '../shared/errors.ts';
import type { RestoreInput } from '../shared/messages.ts';
import { DEPLOYMENT_NAME } from '../shared/names.ts';
import { parseRestoreTime } from '../shared/restore-time.ts';
import { failure, workflowFailure } from './failures.ts';

type Fields = Readonly<Record<string, unknown>>;

function badInput(message: string): Error {
  return workflowFailure(failure('BadInput', message));
}

function notBuiltYet(message: string): Error {
  return workflowFailure(failure('NotBuiltYet', message));
}

/**
 * The fields of the input of workflow `type`.
 * @throws ApplicationFailure `BadInput` when it is not an object or has fields that are not `known`
 */
export function fieldsOf(type: string, input: unknown, known: readonly string[]): Fields {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw badInput(`${type} takes one JSON object with the fields ${known.join(', ') || '(none)'}`);
  }
  const unknown = Object.keys(input).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw badInput(`${type} has no field "${unknown}"; its fields: ${known.join(', ') || '(none)'}`);
  return { ...input };
}

/** A field that must be a non-empty text. */
export function textField(type: string, fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === 'string' && value !== '') return value;
  throw badInput(value === undefined ? `${type} needs the field "${name}"` : `"${name}" of ${type} must be a text`);
}

/** A text that may be missing. */
export function optionalText(type: string, fields: Fields, name: string): string | undefined {
  return fields[name] === undefined ? undefined : textField(type, fields, name);
}

/** A field that may be missing, which is false. */
export function flagField(type: string, fields: Fields, name: string): boolean {
  const value = fields[name] ?? false;
  if (typeof value === 'boolean') return value;
  throw badInput(`"${name}" of ${type} must be true or false`);
}

/** A share, above 0 and up to 1, that may be missing. */
export function shareField(type: string, fields: Fields, name: string): number | undefined {
  const value = fields[name];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && value > 0 && value <= 1) return value;
  throw badInput(`"${name}" of ${type} must be a number above 0 and up to 1`);
}

/** The field `deployment`. */
export function deploymentField(type: string, fields: Fields): string {
  const name = textField(type, fields, 'deployment');
  if (!DEPLOYMENT_NAME.test(name)) throw badInput(`"deployment" of ${type} must be a name like shop-1 (a-z, 0-9, -)`);
  return name;
}

/** What a restore does, of what `restore` can be asked for today. */
export interface RestorePlan {
  readonly deployment: string;
  /** The id of a snapshot, a time as `parseRestoreTime` reads it, or the newest moment there is. */
  readonly from: { readonly snapshot: string } | { readonly at: string } | 'latest';
  /** Absolute. */
  readonly path: string;
  readonly daemon?: string;
  readonly dryRun: boolean;
}

const RESTORE_FIELDS = [
  'deployment',
  'snapshot',
  'at',
  'latest',
  'to',
  'include',
  'daemon',
  'dryRun',
] satisfies (keyof RestoreInput)[];

/** @throws ApplicationFailure `BadInput` or `NotBuiltYet` */
export function restorePlanOf(input: unknown): RestorePlan {
  const fields = fieldsOf('restore', input, RESTORE_FIELDS);
  const deployment = deploymentField('restore', fields);
  const chosen = (['snapshot', 'at', 'latest'] as const).filter((name) => fields[name] !== undefined);
  if (chosen.length !== 1) throw badInput('restore needs exactly one of the fields "snapshot", "at" and "latest"');
  const { include } = fields;
  if (include !== undefined && !(Array.isArray(include) && include.length === 0))
    throw notBuiltYet('a restore of chosen namespaces ("include") is not built yet');
  const to = textField('restore', fields, 'to');
  if (/^(archive|deployment):/.test(to)) throw notBuiltYet('a restore to anything but dir:PATH is not built yet');
  if (!to.startsWith('dir:/')) throw badInput('"to" of restore must be dir:PATH with an absolute path');
  const daemon = optionalText('restore', fields, 'daemon');
  return {
    deployment,
    from: restoredFrom(fields),
    path: to.slice('dir:'.length),
    dryRun: flagField('restore', fields, 'dryRun'),
    ...(daemon === undefined ? {} : { daemon }),
  };
}

function restoredFrom(fields: Fields): RestorePlan['from'] {
  if (fields['snapshot'] !== undefined) return { snapshot: textField('restore', fields, 'snapshot') };
  if (fields['latest'] !== undefined) {
    if (flagField('restore', fields, 'latest')) return 'latest';
    throw badInput('"latest" of restore must be true where there is no "snapshot" and no "at"');
  }
  const at = textField('restore', fields, 'at');
  try {
    parseRestoreTime(at);
  } catch (error) {
    if (!isLifeboatError(error)) throw error;
    throw workflowFailure(error);
  }
  return { at };
}

/**
 * The reason given with an update; `{}` and nothing at all are as good. Synchronous, as a validator must be.
 * @throws ApplicationFailure `BadInput`
 */
export function reasonOf(update: string, input: unknown): string | null {
  const fields = fieldsOf(update, input ?? {}, ['reason']);
  return optionalText(update, fields, 'reason') ?? null;
}

/** @throws ApplicationFailure `BadInput` when an update that takes nothing is given something */
export function refuseFields(update: string, input: unknown): void {
  fieldsOf(update, input ?? {}, []);
}
