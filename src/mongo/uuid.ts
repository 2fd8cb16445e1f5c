import { Binary } from 'mongodb';

/** A UUID as commands and records take it. @param hex its 16 bytes */
export function uuidBinary(hex: string): Binary {
  return new Binary(Buffer.from(hex, 'hex'), Binary.SUBTYPE_UUID);
}
