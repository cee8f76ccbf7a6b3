export {
  angleName,
  camelCase,
  className,
  codeName,
  fileStem,
  includeGuard,
  levelConstant,
  macro,
  planFile,
  snakeCase,
  symbol,
  symbolPrefix,
} from './naming.ts';
