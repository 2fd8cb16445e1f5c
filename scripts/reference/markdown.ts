/** Pieces of Markdown. */

/** A table; a bar in a cell would end it. */
export function markdownTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(headings), line(headings.map(() => '---')), ...rows.map(line)].join('\n');
}

export function code(text: string): string {
  return `\`${text}\``;
}

/** What is not a text is left out. */
export function paragraphs(texts: readonly (string | undefined | null | false)[]): string {
  return texts.filter((text): text is string => typeof text === 'string' && text !== '').join('\n\n');
}
