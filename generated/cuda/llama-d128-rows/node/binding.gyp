# polarc · llama_d128_rows · build of the Node addon · cuda
# Generated from polarc.config.ts (plan 0261287333362bda)
# through templates/cuda/node/binding.gyp.hbs. Do not edit: change the spec, then
#   npx polarc generate polarc.config.ts --target cuda
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Neither CUDA's headers nor its libraries are needed: the addon opens the driver at run time.
#
#   npm install
#   npx node-gyp rebuild        (--nodedir=PREFIX to build without downloading headers)
{
  "targets": [
    {
      "target_name": "llama-d128-rows",
      "sources": [
        "polarc_cuda_node.cc",
        "llama-d128-rows_node.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "libraries": ["-ldl"],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-fexceptions", "-fvisibility=hidden"]
    }
  ]
}
