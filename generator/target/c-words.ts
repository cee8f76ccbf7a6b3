/** Words that C, C++ and the headers of an emitted file take: no cache may be named like one. */
export const C_WORDS: readonly string[] = `
  alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await
  co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
  double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
  new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
  return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
  typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq
  _Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local
  int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t ptrdiff_t intptr_t uintptr_t
  main std errno assert stdin stdout stderr linux unix i386 NULL EOF INFINITY NAN NDEBUG
  polarc
`
  .trim()
  .split(/\s+/);
