# polarc · phi_d96 · build of the Node addon · cuda
# Generated from polarc.config.ts (plan e1a4d80b826b0aab)
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
      "target_name": "phi-d96",
      "sources": [
        "polarc_cuda_node.cc",
        "phi-d96_node.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "libraries": ["-ldl"],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-fexceptions", "-fvisibility=hidden"]
    }
  ]
}
