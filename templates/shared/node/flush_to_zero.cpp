// polarc · a Node addon for tests: turns flush-to-zero and denormals-are-zero of the calling thread on or off, as code
// compiled with -ffast-math leaves them. Kernels must give the same bytes either way.
//
// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <immintrin.h>
#include <node_api.h>

namespace {

constexpr unsigned flush_bits = 0x8040; // FTZ and DAZ of MXCSR

napi_value set_flush_to_zero(napi_env env, napi_callback_info info) {
  napi_value argument = nullptr;
  size_t count = 1;
  bool on = false;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_bool(env, argument, &on);
  _mm_setcsr(on ? _mm_getcsr() | flush_bits : _mm_getcsr() & ~flush_bits);
  return nullptr;
}

} // namespace

NAPI_MODULE_INIT() {
  napi_value function = nullptr;
  napi_create_function(env, nullptr, 0, set_flush_to_zero, nullptr, &function);
  napi_set_named_property(env, exports, "setFlushToZero", function);
  return exports;
}
