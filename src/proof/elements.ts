/** The elements of raw BSON, by the library's own splitter: the copier has another one, so that a mistake of either shows. */
import { createHash } from 'node:crypto';
import { deserialize, EJSON, onDemand } from 'bson';

/** Type byte and value bytes of each top-level element, by name; of a name that comes twice, both in their order. */
export function elementsByName(document: Buffer): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (const [type, nameOffset, nameLength, offset, length] of onDemand.parseToElements(document)) {
    const name = document.toString('utf8', nameOffset, nameOffset + nameLength);
    const value = Buffer.concat([Buffer.of(type), document.subarray(offset, offset + length)]);
    const earlier = found.get(name);
    found.set(name, earlier ? Buffer.concat([earlier, value]) : value);
  }
  return found;
}

/** The document that an element of `elementsByName` holds, or an empty one. */
export function embedded(element: Buffer | undefined): Buffer {
  return element?.subarray(1) ?? Buffer.from([5, 0, 0, 0, 0]);
}

const UNDERSCORE_ID = Buffer.from('_id');

/** Type and value bytes of the first `_id` of a document; undefined when it has none. */
export function idBytes(document: Buffer): Buffer | undefined {
  for (const [type, nameOffset, nameLength, offset, length] of onDemand.parseToElements(document)) {
    if (
      nameLength === UNDERSCORE_ID.length &&
      document.subarray(nameOffset, nameOffset + nameLength).equals(UNDERSCORE_ID)
    ) {
      return Buffer.concat([Buffer.of(type), document.subarray(offset, offset + length)]);
    }
  }
  return undefined;
}

/** An `_id` for people, canonical extended JSON. */
export function idText(id: Buffer): string {
  const type = id.subarray(0, 1);
  const value = id.subarray(1);
  const length = Buffer.alloc(4);
  length.writeInt32LE(4 + 1 + 4 + value.length + 1);
  const wrapped = Buffer.concat([length, type, Buffer.from('_id\0'), value, Buffer.of(0)]);
  return EJSON.stringify(deserialize(wrapped, { promoteValues: false })['_id'], { relaxed: false });
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('base64');
}
