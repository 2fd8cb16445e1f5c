/** Connection strings. Pure. */

/** What the driver found out beyond the text, from the DNS records of a `mongodb+srv` URI. */
export interface ResolvedOptions {
  readonly authSource?: string | undefined;
  readonly tls: boolean;
}

/** Options that say how to find a whole deployment, and so nothing to a connection to one of its members. */
const DEPLOYMENT_OPTIONS = new Set([
  'replicaset',
  'directconnection',
  'loadbalanced',
  'readpreference',
  'readpreferencetags',
  'maxstalenessseconds',
  'srvservicename',
  'srvmaxhosts',
]);

const URI = /^(mongodb(?:\+srv)?):\/\/((?:[^@/]*@)?)([^/?]*)\/?([^?]*)(?:\?(.*))?$/s;

/**
 * The connection string of one member: credentials, TLS and the like of `uri`, one host, a direct connection.
 * Undefined when `uri` is not a connection string.
 */
export function directUri(uri: string, host: string, resolved: ResolvedOptions): string | undefined {
  const match = URI.exec(uri);
  if (!match) return undefined;
  const [, , login, , database, query] = match;
  const options = (query ?? '').split('&').filter((option) => {
    const name = option.split('=')[0] ?? '';
    return name !== '' && !DEPLOYMENT_OPTIONS.has(name.toLowerCase());
  });
  const has = (name: string): boolean => options.some((option) => option.toLowerCase().startsWith(`${name}=`));
  if (resolved.tls && !has('tls') && !has('ssl')) options.push('tls=true');
  if (login !== '' && resolved.authSource !== undefined && !has('authsource')) {
    options.push(`authSource=${encodeURIComponent(resolved.authSource)}`);
  }
  options.push('directConnection=true');
  return `mongodb://${login}${host}/${database}?${options.join('&')}`;
}

/** True when `uri` asks for one member alone. */
export function isDirect(uri: string): boolean {
  return /[?&]directConnection=true(&|$)/i.test(uri);
}
