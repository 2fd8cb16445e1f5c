/** `lifeboat deployments`: the configuration file edited and listed. No secret is ever printed. */
import { resolve } from 'node:path';
import { addDeployment as addToFile, removeDeployment as removeFromFile } from '../../config/edit.ts';
import type { Config, UriSource } from '../../config/schema.ts';
import { checkUri, deploymentUri, holdsPassword, redactUri, unknownDeployment } from '../../config/uris.ts';
import { isLifeboatError, LifeboatError } from '../../shared/errors.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { table } from '../text.ts';

export interface UriFlags {
  readonly uri?: string | undefined;
  readonly uriFile?: string | undefined;
  readonly uriEnv?: string | undefined;
  /** A program and its arguments. */
  readonly uriCommand?: readonly string[] | undefined;
}

export async function addDeployment(context: CliContext, name: string, flags: UriFlags): Promise<Outcome> {
  const source = sourceOf(context, flags);
  const file = context.configPath;
  const config = await addToFile(file, name, source);
  await noteOn(context, config, name, source);
  return {
    result: { name, kind: 'unknown', uri: redactUri(source), file },
    text: `Added ${name} to ${file}; begin with \`lifeboat backup start ${name}\`.`,
  };
}

/** @throws LifeboatError `BadUsage`, `BadUri` */
function sourceOf({ cwd }: CliContext, { uri, uriFile, uriEnv, uriCommand }: UriFlags): UriSource {
  if (uri !== undefined) {
    // What holds a variable is a connection string only once that is filled in.
    return { uri: uri.includes('${') ? uri : checkUri(uri, 'what --uri gives', 'BadUri') };
  }
  if (uriFile !== undefined) return { uriFile: resolve(cwd, uriFile) };
  if (uriCommand !== undefined) {
    const [program, ...args] = uriCommand;
    if (program === undefined || program === '') {
      throw new LifeboatError('BadUsage', '--uri-command takes the program and its arguments behind a --');
    }
    return { uriCommand: [program.includes('/') ? resolve(cwd, program) : program, ...args] };
  }
  if (uriEnv === undefined) {
    throw new LifeboatError(
      'BadUsage',
      'deployments add needs one of --uri URI, --uri-file FILE, --uri-env VARIABLE and --uri-command -- PROGRAM ARG...',
    );
  }
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(uriEnv)) {
    throw new LifeboatError('BadUsage', '--uri-env takes the name of a variable, such as SHOP_URI, not its value');
  }
  return { uri: `\${${uriEnv}}` };
}

/** Tells what the worker will need, as far as this machine can see it. */
async function noteOn(context: CliContext, config: Config, name: string, source: UriSource): Promise<void> {
  // A command is the worker's to run.
  if ('uriCommand' in source) return;
  try {
    await deploymentUri(config, name, context.env);
  } catch (error) {
    // The worker may run elsewhere, with another environment: what is missing here may be there.
    if (isLifeboatError(error)) context.note(`Note: ${error.message}. The worker will need it.`);
  }
  if ('uri' in source && holdsPassword(source.uri)) {
    context.note(
      'Note: the password now stands in the file, which only you can read; --uri-env or --uri-file keep it out.',
    );
  }
}

export async function listDeployments(context: CliContext): Promise<Outcome> {
  const config = await context.config();
  const deployments = [...config.deployments].map(([name, { source }]) => ({
    name,
    kind: 'unknown',
    uri: redactUri(source),
  }));
  const none = `${config.file} has no deployments yet; add one with \`lifeboat deployments add NAME --uri URI\`.`;
  const text = table(
    ['NAME', 'KIND', 'URI'],
    deployments.map(({ name, kind, uri }) => [name, kind, uri]),
  );
  return { result: { deployments }, text: deployments.length === 0 ? none : text };
}

export async function removeDeployment(context: CliContext, name: string): Promise<Outcome> {
  const config = await context.config();
  if (!config.deployments.has(name)) throw unknownDeployment(config, name);
  const { backupRuns } = await import('./busy.ts');
  if (await backupRuns(context, config, name)) {
    throw new LifeboatError('DeploymentBusy', `the backup of ${name} runs`);
  }
  await removeFromFile(config.file, name);
  return { result: { name, file: config.file }, text: `Removed ${name} from ${config.file}; its snapshots stay.` };
}
