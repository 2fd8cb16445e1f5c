/**
 * Connection strings: resolved where they are used, and shown without what is secret in them.
 *
 * A refusal names the variable, the file or the key that is wrong and never quotes the connection string.
 */
import { readFileSync } from 'node:fs';
import { MongoClient } from 'mongodb';
import { LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { Config, UriSource } from './schema.ts';
import { SecretCommands } from './secret-command.ts';

const VARIABLE = /\$\{([^}]*)\}/g;
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * The connection string of a deployment.
 * @param commands runs what prints one; without it, each command is run once
 * @throws LifeboatError `UnknownDeployment`, `SecretMissing`, `SecretCommandFailed`, `BadUri`
 */
export async function deploymentUri(
  config: Config,
  name: string,
  env: NodeJS.ProcessEnv,
  commands = new SecretCommands(env),
): Promise<string> {
  const deployment = config.deployments.get(name);
  if (!deployment) throw unknownDeployment(config, name);
  const uri = await resolveUri(deployment.source, `deployment ${name}`, env, commands);
  return checkUri(uri, `the uri of deployment ${name}`, 'BadUri');
}

export function unknownDeployment(config: Config, name: string): LifeboatError {
  return new LifeboatError('UnknownDeployment', `${config.file} has no deployment ${name}`);
}

/**
 * The connection strings of the stores, as far as the configuration names them.
 * @throws LifeboatError `SecretMissing`, `SecretCommandFailed`, `StoreBadUri`
 */
export async function configuredStores(
  config: Config,
  env: NodeJS.ProcessEnv,
  commands = new SecretCommands(env),
): Promise<{ readonly blockstore?: string; readonly syncStore?: string; readonly oplogStore?: string }> {
  const uris: { blockstore?: string; syncStore?: string; oplogStore?: string } = {};
  for (const key of ['blockstore', 'syncStore', 'oplogStore'] as const) {
    const source = config[key];
    if (!source) continue;
    uris[key] = checkUri(await resolveUri(source, key, env, commands), `the uri of ${key}`, 'StoreBadUri');
  }
  return uris;
}

/**
 * Replaces variables, reads the file, or runs the command.
 * @param owner what the URI belongs to, for the message
 * @throws LifeboatError `SecretMissing`, `SecretCommandFailed`
 */
async function resolveUri(
  source: UriSource,
  owner: string,
  env: NodeJS.ProcessEnv,
  commands: SecretCommands,
): Promise<string> {
  if ('uriCommand' in source) return commands.read(source.uriCommand, owner);
  if ('uriFile' in source) return readSecret(source.uriFile, owner);
  return source.uri.replaceAll(VARIABLE, (_, name: string) => {
    if (!VARIABLE_NAME.test(name)) {
      throw new LifeboatError('SecretMissing', `the uri of ${owner} has a "\${…}" that is no name of a variable`);
    }
    const value = env[name];
    if (value === undefined || value === '') {
      throw new LifeboatError('SecretMissing', `the environment variable ${name}, which ${owner} needs, is not set`);
    }
    return value;
  });
}

function readSecret(file: string, owner: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new LifeboatError('SecretMissing', `the file ${file}, which ${owner} needs, cannot be read`, {
      cause: error,
    });
  }
  if (text === '') throw new LifeboatError('SecretMissing', `the file ${file}, which ${owner} needs, is empty`);
  return text;
}

/**
 * Passes a connection string on if the driver accepts it; nothing is connected.
 * @param what what it is, for the message
 * @throws LifeboatError of `kind`
 */
export function checkUri(uri: string, what: string, kind: Extract<ErrorName, 'BadUri' | 'StoreBadUri'>): string {
  try {
    void new MongoClient(uri);
    return uri;
  } catch (error) {
    throw new LifeboatError(kind, `${what} is no valid connection string: ${whyBad(uri)}`, { cause: error });
  }
}

/** The usual mistakes, told without a word of the text itself. */
function whyBad(uri: string): string {
  const rest = /^mongodb(?:\+srv)?:\/\/(.*)$/s.exec(uri)?.[1];
  if (rest === undefined) return 'it must begin with mongodb:// or mongodb+srv://';
  if (/\s/.test(uri)) return 'it has a space or a line break in it';
  const [authority = ''] = rest.split(/[/?]/, 1);
  const userInfo = rest.lastIndexOf('@');
  if (userInfo > authority.lastIndexOf('@') || authority.split('@').length > 2) {
    return 'percent-encode the characters : / ? # [ ] @ % in user and password';
  }
  if (authority.slice(authority.lastIndexOf('@') + 1) === '') return 'it names no host';
  return 'its hosts, its database or one of its options is not right';
}

/** Where a URI leads, without user, password and options: a list of hosts, or what holds it. */
export function redactUri(source: UriSource): string {
  if ('uriFile' in source) return `(in the file ${source.uriFile})`;
  // Its arguments may be secret too.
  if ('uriCommand' in source) return `(printed by ${source.uriCommand[0]})`;
  const { uri } = source;
  const variables = [...uri.matchAll(VARIABLE)].map(([variable]) => variable);
  if (variables.length > 0 && !/^mongodb(\+srv)?:\/\//.test(uri)) return variables.join(' ');
  return hostsOf(uri);
}

/** The scheme and hosts of a connection string. */
export function hostsOf(uri: string): string {
  const [, scheme = '', authority = '', rest = ''] = /^(mongodb(?:\+srv)?:\/\/)([^/?]*)(.*)$/s.exec(uri) ?? [];
  const hosts = authority.slice(authority.lastIndexOf('@') + 1);
  // An @ further on may end a password with an unescaped / or ? in it: then these are no hosts.
  return !rest.includes('@') && /^[\w.:,[\]${}-]+$/.test(hosts) ? `${scheme}${hosts}` : '(not shown)';
}

/** Whether a user and a password stand in the text itself. */
export function holdsPassword(uri: string): boolean {
  return /^mongodb(\+srv)?:\/\/[^@]*:[^@]*@/.test(uri);
}
