/** The simulator's parts that others use: fault texts are checked before a simulator is started. */
export { FAULT_FORMS, type Fault, parseFault } from './fault.ts'
