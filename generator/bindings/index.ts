export { bindingView, type SharedMatrix, sharedMatrix } from './binding-view.ts';
