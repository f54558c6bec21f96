import { onBeforeUnmount, type Ref, shallowRef } from 'vue'
import type { Stroke } from './drawing.ts'
import { usePage } from './page.ts'
import { type Pad, workOf } from './state.ts'

/** The strokes on a pad, as they were left when its view went; kept when it goes again. */
export function useSketch(pad: Pad, genesis: string): Ref<readonly Stroke[]> {
  const page = usePage()
  const before = workOf(page.state.value, genesis).sketches[pad]
  const strokes = shallowRef(before)
  onBeforeUnmount(() => {
    if (strokes.value.length + before.length > 0)
      page.dispatch({ type: 'sketched', genesis, pad, strokes: strokes.value })
  })
  return strokes
}
