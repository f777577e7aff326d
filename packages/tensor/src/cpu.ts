import { backend, ready, setBackend } from '@tensorflow/tfjs-core'
import { type Backend, needs } from './backend.ts'

/** Plain JavaScript: slow, exact, everywhere. The reference of the conformance suite. */
export const cpu = async (): Promise<Backend> => {
  await needs(() => import('@tensorflow/tfjs-backend-cpu'), '@tensorflow/tfjs-backend-cpu')
  await setBackend('cpu')
  await ready()
  // tfjs advertises its native package at the first use in Node; our caller has chosen
  ;(backend() as { firstUse?: boolean }).firstUse = false
  return { name: 'cpu', device: 'plain JavaScript' }
}
