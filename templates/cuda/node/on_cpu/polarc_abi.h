// The ABI by the name that an emitted addon knows it under.
#include "../../../shared/abi.h.hbs"
