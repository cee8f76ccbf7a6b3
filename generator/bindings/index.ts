export { type Arrays, bindingView, type SharedMatrix, sharedMatrix } from './binding-view.ts';
