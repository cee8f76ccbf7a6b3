/** The calls of one codec. */

import type { KernelCalls, Role } from '../plan/index.ts';

export interface RoleKernels {
  readonly encode: KernelCalls['encodeKey'];
  readonly decode: KernelCalls['decodeKey'];
  readonly rotate: KernelCalls['rotateKey'];
}

export const kernelsOf = (calls: KernelCalls, role: Role): RoleKernels =>
  role === 'key'
    ? {
        encode: (call) => calls.encodeKey(call),
        decode: (call) => calls.decodeKey(call),
        rotate: (call) => calls.rotateKey(call),
      }
    : {
        encode: (call) => calls.encodeValue(call),
        decode: (call) => calls.decodeValue(call),
        rotate: (call) => calls.rotateValue(call),
      };
