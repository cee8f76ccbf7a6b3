# polarc · llama_d128_rows · build of the Node addon · avx2
# Generated from polarc.config.ts (plan 0261287333362bda)
# through templates/avx2/node/binding.gyp.hbs. Do not edit: change the spec, then
#   npx polarc generate polarc.config.ts --target avx2
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# The kernels are a library of their own, so that only they are compiled for AVX2: the addon loads
# on any x86-64 machine, and its calls say so where the CPU lacks what they need.
#
#   npm install
#   npx node-gyp rebuild        (--nodedir=PREFIX to build without downloading headers)
{
  "targets": [
    {
      "target_name": "llama-d128-rows-kernels",
      "type": "static_library",
      "sources": ["../../llama-d128-rows.cpp"],
      "cflags": [
        "-O3", "-ffp-contract=off", "-mavx2", "-mfma", "-mf16c", "-fPIC", "-fvisibility=hidden"
      ],
      "cflags_cc": ["-std=c++17", "-fno-exceptions"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"]
    },
    {
      "target_name": "llama-d128-rows",
      "dependencies": ["llama-d128-rows-kernels"],
      "sources": [
        "polarc_node.cc",
        "llama-d128-rows_node.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-fexceptions", "-fvisibility=hidden"]
    }
  ]
}
