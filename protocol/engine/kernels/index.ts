export { activate, activationGradient, softmax, softmaxGradient } from './activation.ts'
export { copyImages, foldRepeats, maskRows, repeatRows } from './border.ts'
export { convolve, filterGradient, packKernel, packTurned } from './convolution.ts'
export { depthwise, depthwiseFilterGradient, turnDepthwise } from './depthwise.ts'
export { dropout, dropoutSteps } from './dropout.ts'
export { gemm } from './gemm.ts'
export { crossEntropy } from './loss.ts'
export { adam, sgd, sgdFollow } from './optimizer.ts'
export { peak } from './peak.ts'
export { activationBiasGradient, add, sumRows } from './rows.ts'
export { attend, attendGradient } from './attention.ts'
export { gather, scatter } from './embedding.ts'
export { clear, copyRows, meanOfSteps, meanOfStepsGradient, permute, scale, times } from './layout.ts'
export {
  batchGradient, batchNormalise, batchSpread, batchStatistics, batchSums, layerGradient, layerNormalise,
} from './norm.ts'
export { maxPoolGradient, meanPoolGradient, pool } from './pool.ts'
export {
  gruAfterBackward, gruAfterForward, gruBackward, gruForward, lstmBackward, lstmForward,
} from './recurrent.ts'
export { winograd, winogradFilterGradient } from './winograd.ts'
