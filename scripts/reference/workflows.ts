/** workflows.md: each workflow type, what it takes, what it answers, and how a running backup is spoken to. */
import { readFile } from 'node:fs/promises';
import ts from 'typescript';
import { code, markdownTable, paragraphs } from './markdown.ts';

const SOURCES = new URL('../../src/', import.meta.url);

const INTRODUCTION = `Each workflow takes **one JSON object**, from the Temporal UI, the \`temporal\` CLI or \`lifeboat\`, and is started on the task
queue \`lifeboat\`. The id of a backup is \`backup/<deployment>\`, of which there is one; other ids begin with their type and deployment. A
missing, misspelt or unknown field is refused with LB1007. [temporal/README.md](../../temporal/README.md) has a line
to start each with.

A workflow that fails does so with an application failure whose type is [the code](errors.md). Optimes are \`{t, i}\`: seconds since the epoch,
and an ordinal within that second.`;

const UNBUILT = 'not-built-yet.ts';

export async function workflowsPage(): Promise<string> {
  const index = await sourceFile('workflows/index.ts');
  const messages = await sourceFile('shared/messages.ts');
  const types = index.statements.filter(ts.isExportDeclaration).flatMap(exportsOf);
  const built = types.filter(({ file }) => file !== UNBUILT);
  const sections = built.map(({ type, file }) => workflowSection(type, file, messages));
  const unbuilt = types.filter(({ file }) => file === UNBUILT).map(({ type }) => code(type));
  return paragraphs([
    '# Workflows',
    INTRODUCTION,
    ...(await Promise.all(sections)),
    '## Not built yet',
    `${unbuilt.join(', ')}: each refuses with LB1002.`,
    '## Speaking to a backup',
    'By its workflow id, `backup/<deployment>`. An update returns when its phase is in effect.',
    await messagesTable(),
    await answersOf(messages),
  ]);
}

async function sourceFile(path: string): Promise<ts.SourceFile> {
  return ts.createSourceFile(path, await readFile(new URL(path, SOURCES), 'utf8'), ts.ScriptTarget.Latest, true);
}

/** The names that a line of index.ts exports, and from which file. */
function exportsOf(line: ts.ExportDeclaration): { readonly type: string; readonly file: string }[] {
  const { exportClause, moduleSpecifier } = line;
  if (!exportClause || !ts.isNamedExports(exportClause) || !moduleSpecifier || !ts.isStringLiteral(moduleSpecifier))
    return [];
  return exportClause.elements.map(({ name }) => ({ type: name.text, file: moduleSpecifier.text.replace('./', '') }));
}

async function workflowSection(type: string, file: string, messages: ts.SourceFile): Promise<string> {
  const source = await sourceFile(`workflows/${file}`);
  const input = interfaceNamed(messages, `${type.charAt(0).toUpperCase()}${type.slice(1)}Input`);
  if (!input) throw new Error(`src/shared/messages.ts has no input of ${type}`);
  const results = resultOf(source, type);
  return paragraphs([
    `## ${code(type)}`,
    headOf(source, type),
    '**Takes**',
    markdownTable(
      ['Field', 'Type', 'Must be given', 'Meaning'],
      input.members.filter(ts.isPropertySignature).map(fieldRow),
    ),
    `**Answers** ${results.map(code).join(' or ')}${type === 'backup' ? ', once it is stopped' : ''}`,
    type !== 'backup' && codeOf(results, messages),
  ]);
}

/** What the comment at the head of the file says of the workflow: its first paragraph. */
function headOf(source: ts.SourceFile, type: string): string {
  const [, comment = ''] = /^\/\*\*([^]*?)\*\//.exec(source.text) ?? [];
  const [text = ''] = plain(comment).split('\n\n');
  const said = text.replace(new RegExp(`^Workflow \`${type}\`: `), '');
  if (said === text) throw new Error(`${source.fileName} does not begin with what the workflow ${type} is`);
  return `${said.charAt(0).toUpperCase()}${said.slice(1)}`;
}

/** A comment without its stars; lines of a paragraph are joined. */
function plain(comment: string): string {
  return comment
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trim())
    .join('\n')
    .trim()
    .replaceAll(/([^\n])\n(?!\n)/g, '$1 ');
}

function docOf(node: ts.Node): string {
  const comments = ts
    .getJSDocCommentsAndTags(node)
    .flatMap((doc) => (ts.isJSDoc(doc) ? [ts.getTextOfJSDocComment(doc.comment) ?? ''] : []));
  return plain(comments.join(' '));
}

function fieldRow(field: ts.PropertySignature): string[] {
  const type = field.type?.getText().replace('readonly ', '') ?? '';
  return [code(field.name.getText()), code(type), field.questionToken ? 'no' : 'yes', docOf(field)];
}

function interfaceNamed(source: ts.SourceFile, name: string): ts.InterfaceDeclaration | undefined {
  return source.statements.filter(ts.isInterfaceDeclaration).find((statement) => statement.name.text === name);
}

/** The names of the types that a workflow's promise holds. */
function resultOf(source: ts.SourceFile, type: string): string[] {
  const workflow = source.statements.filter(ts.isFunctionDeclaration).find(({ name }) => name?.text === type);
  const [, text = ''] = /^Promise<(.*)>$/.exec(workflow?.type?.getText() ?? '') ?? [];
  return text.split(' | ');
}

/** The declarations of these types, and of those of the same file that they name. */
function codeOf(names: readonly string[], source: ts.SourceFile): string {
  const all = source.statements.filter(
    (statement) => ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement),
  );
  const found = new Set<ts.Node>();
  const visit = (name: string): void => {
    const declaration = all.find((statement) => statement.name.text === name);
    if (!declaration || found.has(declaration)) return;
    found.add(declaration);
    for (const other of all) {
      if (new RegExp(`\\b${other.name.text}\\b`).test(declaration.getText())) visit(other.name.text);
    }
  };
  names.forEach(visit);
  const text = [...found].map((node) => node.getText().replaceAll(/\breadonly (?!\w+\[\])|^export /gm, ''));
  const spelt = text.map((declaration) =>
    declaration.replaceAll(/\(typeof (\w+)\)\[number\]/g, (_, name: string) => membersOf(name, source)),
  );
  return spelt.length === 0 ? '' : `\`\`\`ts\n${spelt.join('\n\n')}\n\`\`\``;
}

/** The texts of a list of constants, as a union. */
function membersOf(name: string, source: ts.SourceFile): string {
  const declarations = source.statements
    .filter(ts.isVariableStatement)
    .flatMap((statement) => [...statement.declarationList.declarations]);
  const list = declarations.find((declaration) => declaration.name.getText() === name)?.initializer;
  return [...(list?.getText() ?? '').matchAll(/'[^']*'/g)].map(([text]) => text).join(' | ');
}

const KINDS: Readonly<Record<string, string>> = {
  defineUpdate: 'update',
  defineSignal: 'signal',
  defineQuery: 'query',
};

async function messagesTable(): Promise<string> {
  const source = await sourceFile('workflows/messages.ts');
  const rows = source.statements.filter(ts.isVariableStatement).flatMap((statement) => {
    const call = statement.declarationList.declarations[0]?.initializer;
    if (!call || !ts.isCallExpression(call)) return [];
    const kind = KINDS[call.expression.getText()];
    const [name] = call.arguments;
    if (kind === undefined || !name || !ts.isStringLiteral(name)) return [];
    const [answer, given] = call.typeArguments ?? [];
    const takes = given && ts.isTupleTypeNode(given) ? (given.elements[0]?.getText() ?? '') : '';
    const object = /reason/.test(takes) ? '{"reason": "…"}, or {}' : takes === '' ? '' : '{}';
    return [[code(name.text), kind, object && code(object), answer ? code(answer.getText()) : '', docOf(statement)]];
  });
  return markdownTable(['Name', 'Kind', 'Takes', 'Answers', 'Meaning'], rows);
}

async function answersOf(messages: ts.SourceFile): Promise<string> {
  const own = codeOf(['LifecycleStatus'], await sourceFile('workflows/messages.ts'));
  return paragraphs([own, codeOf(['Problem', 'Phase'], messages)]);
}
