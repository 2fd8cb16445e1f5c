/** What the server says to `validate`. */
import type { Document } from 'mongodb';

/**
 * Of documents that do not fit their collection's own validator, such as older ones, a mongod 5.0 or 6.0 says that the
 * collection is not valid (validate_adaptor.cpp, kSchemaValidationFailedReason); they are what the source holds, byte for
 * byte. It looks at no index of the collection then (tried on 6.0.5).
 */
const NOT_COMPLIANT = "Detected one or more documents not compliant with the collection's schema.";

/** Whether a collection is as sound as the server can tell. */
export function isSound({ valid, errors }: Document): boolean {
  if (valid === true) return true;
  if (!Array.isArray(errors) || errors.length === 0) return false;
  return errors.every((error) => typeof error === 'string' && error.startsWith(NOT_COMPLIANT));
}
